"""A language whose entropy is known exactly: a loss below it proves a leak.

Letters follow a Markov source of order 2 over a to z and space. What makes its entropy exact: every pair of
letters has its own eight successors, but always with the same probabilities 1/2, 1/4, ... 1/64, 1/128, 1/128.
So every letter of every document carries 127/64 bits to one who knows the language and all that came before,
whatever the context and the position; no stationary distribution has to be computed. The first letters follow
the context of two spaces, which the document's start supplies, so they carry as much.

A reader who knows less (a window that begins in mid-document, a document whose start is not marked) pays more,
and the separators between documents are paid for but stand for no text: the figure bounds from below the
expected cost of every byte. A measured mean over n bytes scatters around it by 1.34/sqrt(n) bits.

Everything is drawn from SHAKE-256 and integers, so the language is equal on every machine. A document is a
function of its index alone, so there are as many as anyone wants.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

LANGUAGE = "blueberry/synthetic/1"
"""Names the language. Whoever changes a document changes this name."""

LETTERS = b" etaoinshrdlucmfpgwybvkxjqz"
"""Frequent ones first."""

ENTROPY_BITS_PER_BYTE = 127 / 64

_NUM_LETTERS = len(LETTERS)
_NUM_CONTEXTS = _NUM_LETTERS**2
_NUM_SUCCESSORS = 8
_SHORTEST_BYTES = 1024
_LENGTHS = 2048
"""Documents are of 1024 to 3071 bytes, equally likely and independent of what they say."""


def documents(indices: Sequence[int]) -> list[bytes]:
    """The documents of these indices, each of 1024 to 3071 letters.

    Source: letter t is successor number k of letters t-2 and t-1, where k counts the zero bits below the lowest
    one bit of the t-th random byte, at most 7: successor k has probability 2^-(k+1), the last one 1/128.
    """
    drawn = [_draws(index) for index in indices]
    num_bytes = np.array([draws.size for draws in drawn], dtype=np.int64)
    ranks_LD = np.zeros((num_bytes.max(initial=0), len(drawn)), dtype=np.uint8)
    for column, draws in enumerate(drawn):
        ranks_LD[: draws.size, column] = _RANK_OF_BYTE[draws]
    letters_LD = np.empty_like(ranks_LD)
    context = np.zeros(len(drawn), dtype=np.int64)
    successors_CK = successors()
    for position, ranks in enumerate(ranks_LD):
        letters = successors_CK[context, ranks]
        letters_LD[position] = letters
        context = context * _NUM_LETTERS % _NUM_CONTEXTS + letters
    text_DL = np.frombuffer(LETTERS, dtype=np.uint8)[letters_LD.T]
    return [row[:size].tobytes() for row, size in zip(text_DL, num_bytes, strict=True)]


def successors() -> np.ndarray:
    """The language itself: uint8 (729, 8), the letters that may follow each context, likeliest first.

    Letters are indices into LETTERS; context 27 * a + b is letter a and then b. Frequent letters succeed more
    contexts, and no space follows a space.
    """
    num_keys = _NUM_CONTEXTS * _NUM_LETTERS
    random = np.frombuffer(hashlib.shake_256(LANGUAGE.encode()).digest(2 * num_keys), dtype="<u2")
    keys_CN = random.reshape(_NUM_CONTEXTS, _NUM_LETTERS).astype(np.int64) * (4 + np.arange(_NUM_LETTERS))
    keys_CN[::_NUM_LETTERS, 0] = np.iinfo(np.int64).max
    return np.argsort(keys_CN, axis=1, kind="stable")[:, :_NUM_SUCCESSORS].astype(np.uint8)


def _draws(index: int) -> np.ndarray:
    """One random byte for each letter of a document."""
    shake = hashlib.shake_256(f"{LANGUAGE}/{index}".encode()).digest(2 + _SHORTEST_BYTES + _LENGTHS)
    num_bytes = _SHORTEST_BYTES + int.from_bytes(shake[:2], "little") % _LENGTHS
    return np.frombuffer(shake, dtype=np.uint8)[2 : 2 + num_bytes]


_RANK_OF_BYTE = np.array([next((bit for bit in range(7) if byte >> bit & 1), 7) for byte in range(256)], dtype=np.uint8)
