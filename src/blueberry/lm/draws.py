"""Random numbers as a function of where they are used: (seed, update, site, sequence, element).

A counter-based hash instead of a generator with a state. So a draw does not depend on which lanes or
micro-batches are computed together, on the device, or on what was drawn before; resuming needs no saved state.
One hash of 32 bits is two of dropout's decisions. On a CPU numpy computes it, because its unsigned shifts need no
masks and blocks stay in the cache; elsewhere torch does, and where it is compiled. Both give the same bits.

Shapes: N lanes, B sequences, K elements of one sequence, R rows and W words of a table of hashes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

EMBEDDING, HEAD = 0, 1
ATTENTION, ATTENTION_BRANCH, ROUTER, HIDDEN, FEED_FORWARD_BRANCH, SHARED_HIDDEN = 2, 3, 4, 5, 6, 7
"""Places in a layer; a site is such a place in one of the layers."""
SITES_A_LAYER = 8

_GOLDEN = 0x9E3779B97F4A7C15
_FACTORS = (0x7FEB352D, 0x846CA68B)
_BLOCK_WORDS = 1 << 15
"""Hashed at once on a CPU: with their masks they fit a core's second cache."""


@dataclass(frozen=True)
class Draws:
    """What one micro-batch, or one layer of it, draws: dropout's masks and the router's noise."""

    keys_SR: Tensor | None
    """For each site and sequence a well mixed 32-bit number, int32 (S, N * B). None: no chance, as in evaluation."""
    dropout: float

    def of_layer(self, index: int) -> "Draws":
        first = SITES_A_LAYER * (index + 1)
        return self if self.keys_SR is None else replace(self, keys_SR=self.keys_SR[first : first + SITES_A_LAYER])

    def keep(self, place: int, like: Tensor) -> Tensor | None:
        """A mask, 0 with the probability of dropout, else 1 / (1 - dropout), for a tensor of N * B equal shares, fp32;
        None where nothing is dropped.
        """
        if self.keys_SR is None or self.dropout == 0:
            return None
        return _keep(self.keys_SR[place], like.numel() // self.keys_SR.shape[1], self.dropout).view_as(like)

    def keep_rows(self, place: int, order_A: Tensor, num_features: int) -> Tensor | None:
        """The same for rows of features that are some order of the micro-batch's: (A, num_features).

        A row's draws belong to its number before it was put in order, so that no order moves them.
        """
        if self.keys_SR is None or self.dropout == 0:
            return None
        keys_A = _words(self.keys_SR[place], order_A.numel() // self.keys_SR.shape[1]).view(-1)[order_A]
        return _keep(keys_A, num_features, self.dropout)

    def normal(self, place: int, like: Tensor) -> Tensor | None:
        """Standard normal numbers for a tensor of N * B equal shares, fp32 (Box & Muller 1958); None in evaluation."""
        if self.keys_SR is None:
            return None
        num_elements = like.numel() // self.keys_SR.shape[1]
        words_RW = _words(self.keys_SR[place], 2 * num_elements) & 0xFFFFFF
        uniform_RW = (words_RW.float() + 0.5) * 2.0**-24
        radius_RK = (-2.0 * uniform_RW[:, :num_elements].log()).sqrt_()
        return (radius_RK * (2.0 * math.pi * uniform_RW[:, num_elements:]).cos()).view_as(like)

    def drop(self, place: int, x: Tensor) -> Tensor:
        keep = self.keep(place, x)
        return x if keep is None else (x * keep).to(x.dtype)


def keys_SNB(seeds: tuple[int, ...], update: int, sequences: range, num_sites: int) -> np.ndarray:
    """The keys of an update's sequences, int32 (S, N, B). `site` is a number that each place in the model has."""
    with np.errstate(over="ignore"):
        seed_N = np.array(seeds, dtype=np.uint64)
        site_S11 = np.arange(num_sites, dtype=np.uint64)[:, None, None]
        sequence_B = np.arange(sequences.start, sequences.stop, dtype=np.uint64)
        update_N1 = _splitmix(_splitmix(seed_N) ^ np.uint64(update))[:, None]
        key_SNB = _splitmix(_splitmix(update_N1 ^ site_S11) ^ sequence_B)
    return (key_SNB >> np.uint64(32)).astype(np.uint32).view(np.int32)


def _keep(keys_R: Tensor, num_elements: int, drop: float) -> Tensor:
    """Masks (R, num_elements): an element's 16 bits decide."""
    least = min(round(drop * 2**16), 2**16 - 1) - 2**15  # of the bits as a signed number
    if _is_elementwise(keys_R):
        return _compared(keys_R, num_elements, least, 1.0 / (1.0 - drop))
    keep_RK, kept = torch.empty(len(keys_R), num_elements), np.float32(1.0 / (1.0 - drop))
    for rows, columns, words in _blocks(keys_R, (num_elements + 1) // 2):
        elements = slice(2 * columns.start, min(2 * columns.stop, num_elements))
        halves = words.view(np.int16)[:, : elements.stop - elements.start]
        np.multiply(halves >= least, kept, out=keep_RK.numpy()[rows, elements])
    return keep_RK


def _is_elementwise(keys_R: Tensor) -> bool:
    """Where a hash is best written out element by element: on other devices, and where that is compiled."""
    return keys_R.device.type != "cpu" or torch.compiler.is_compiling()


def _compared(keys_R: Tensor, num_elements: int, least: int, height: float) -> Tensor:
    """The same element by element, to be fused with what uses it: `height` where an element's half word is enough."""
    element_K = torch.arange(num_elements, dtype=torch.int32, device=keys_R.device)
    word_RK = _mix(_mix(element_K >> 1) ^ keys_R[:, None])
    half_RK = (word_RK << (16 - 16 * (element_K & 1))) >> 16  # even elements have the low half
    return (half_RK >= least) * height


def _words(keys_R: Tensor, num_words: int) -> Tensor:
    """A hash of each key with each of the first numbers: int32 (R, num_words)."""
    if _is_elementwise(keys_R):
        counter_W = torch.arange(num_words, dtype=torch.int32, device=keys_R.device)
        return _mix(_mix(counter_W) ^ keys_R[:, None])
    words_RW = np.empty((len(keys_R), num_words), dtype=np.uint32)
    for rows, columns, words in _blocks(keys_R, num_words):
        words_RW[rows, columns] = words
    return torch.from_numpy(words_RW.view(np.int32))


def _blocks(keys_R: Tensor, num_words: int) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """The hashes of keys on the CPU, block by block: rows, columns, and words that the next block overwrites."""
    keys = keys_R.numpy().view(np.uint32)
    counter_W = _counter(num_words)
    num_columns = min(num_words, _BLOCK_WORDS)
    num_rows = max(1, _BLOCK_WORDS // max(num_columns, 1))
    hashes, scratch = (np.empty(num_rows * num_columns, dtype=np.uint32) for _ in range(2))
    for top in range(0, len(keys), num_rows):
        rows = slice(top, min(top + num_rows, len(keys)))
        for left in range(0, num_words, num_columns):
            columns = slice(left, min(left + num_columns, num_words))
            shape = (rows.stop - rows.start, columns.stop - columns.start)
            size = shape[0] * shape[1]
            block, other = hashes[:size].reshape(shape), scratch[:size].reshape(shape)
            np.bitwise_xor(counter_W[columns], keys[rows, None], out=block)
            _mix_in_place(block, other)
            yield rows, columns, block


@lru_cache(maxsize=32)
def _counter(num_words: int) -> np.ndarray:
    """The first numbers, mixed: uint32 (W,)."""
    counter_W = np.arange(num_words, dtype=np.uint32)
    _mix_in_place(counter_W, np.empty_like(counter_W))
    return counter_W


def _splitmix(x: np.ndarray) -> np.ndarray:
    """Scramble uint64 values one to one. Source: SplitMix64 (Steele, Lea & Flood 2014)."""
    x = x + np.uint64(_GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _mix_in_place(x: np.ndarray, scratch: np.ndarray) -> None:
    """Scramble uint32 values one to one. Source: C. Wellons' hash prospector, "lowbias32"."""
    for shift, factor in zip((16, 15), _FACTORS, strict=True):
        np.right_shift(x, np.uint32(shift), out=scratch)
        np.bitwise_xor(x, scratch, out=x)
        np.multiply(x, np.uint32(factor), out=x)
    np.right_shift(x, np.uint32(16), out=scratch)
    np.bitwise_xor(x, scratch, out=x)


def _mix(x: Tensor) -> Tensor:
    """The same of int32 values, wrapping, out of place. Right shifts are arithmetic: the bits they drag in go."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * _FACTORS[0]
    x = (x ^ ((x >> 15) & 0x1FFFF)) * (_FACTORS[1] - 2**32)
    return x ^ ((x >> 16) & 0xFFFF)
