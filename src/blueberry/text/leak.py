"""How much held-out text is also trained on. A leak makes a held-out loss a training loss."""

from dataclasses import dataclass

import numpy as np

from blueberry.text.dataset import Mixture, Split
from blueberry.text.order import count_windows, evaluation_set, window_starts

NGRAM_TOKENS = 13
"""So long a run of tokens is rarely repeated by chance. Source: Brown et al. 2020, appendix C."""
_CHUNK_TOKENS = 1 << 20
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Overlap:
    """Shares of held-out text that occur in the windows of training, word for word."""

    ngrams: float
    """Of the distinct runs of 13 tokens within held-out windows."""
    windows: float
    """Of the held-out windows, those whose every run of 13 tokens occurs."""


def overlap(
    train: Split | Mixture, held_out: Split | Mixture, *, context_tokens: int, num_tokens: int = 100_000
) -> Overlap:
    """Compare windows for about `num_tokens` held-out tokens with all windows of training. Memory stays flat.

    Near 1 for overlapping windows split at random; a few hundredths for documents split whole.
    Raises: DataError if a split is shorter than a window.
    """
    ngram_tokens = min(NGRAM_TOKENS, context_tokens)
    windows_WT = evaluation_set(held_out, context_tokens=context_tokens, num_tokens=num_tokens).windows
    hashes_WG = _hashes(windows_WT, ngram_tokens)
    sought = np.unique(hashes_WG)
    is_found = np.zeros(sought.size, dtype=bool)
    for split in (train,) if isinstance(train, Split) else train.parts:
        is_trained = _trained_ngrams(split, ngram_tokens, context_tokens)
        for start in range(0, split.tokens.size, _CHUNK_TOKENS):
            chunk = np.asarray(split.tokens[start : start + _CHUNK_TOKENS + ngram_tokens - 1])
            if chunk.size < ngram_tokens:
                continue
            hashes = _hashes(chunk[None], ngram_tokens)[0]
            if is_trained is not None:
                hashes = hashes[is_trained[start : start + hashes.size]]
            places = np.searchsorted(sought, hashes).clip(max=sought.size - 1)
            is_found[places[sought[places] == hashes]] = True
    return Overlap(
        ngrams=float(is_found.mean()),
        windows=float(is_found[np.searchsorted(sought, hashes_WG)].all(axis=1).mean()),
    )


def _hashes(tokens_WT: np.ndarray, ngram_tokens: int) -> np.ndarray:
    """A 64-bit hash of each run of tokens, uint64 (W, T - n + 1)."""
    size = tokens_WT.shape[1] - ngram_tokens + 1
    hashes_WG = np.zeros((tokens_WT.shape[0], size), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(ngram_tokens):
            hashes_WG = (
                hashes_WG + tokens_WT[:, offset : offset + size].astype(np.uint64) + np.uint64(1)
            ) * _MULTIPLIER
            hashes_WG ^= hashes_WG >> np.uint64(29)
    return hashes_WG


def _trained_ngrams(split: Split, ngram_tokens: int, context_tokens: int) -> np.ndarray | None:
    """At which positions a run of tokens lies within a window of training, bool (S,); None: everywhere."""
    if split.lot is None:
        return None  # windows side by side share a token and together cover the stream
    starts = window_starts(split, np.arange(count_windows(split, context_tokens=context_tokens)), context_tokens)
    covers = np.zeros(split.tokens.size + 1, dtype=np.int64)
    np.add.at(covers, starts, 1)
    np.add.at(covers, starts + context_tokens + 1 - ngram_tokens + 1, -1)
    return np.cumsum(covers)[:-1] > 0
