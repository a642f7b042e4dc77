"""Which tokens are trained on at which update, and which are measured: functions of their arguments alone.

A window is T + 1 consecutive tokens: T inputs and, one later, T to predict. Windows start T apart, so a pass
over them predicts every token once, but for the first and the fewer than T that no whole window reaches.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from blueberry.errors import DataError
from blueberry.identity import digest
from blueberry.text.dataset import Split


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Fixed windows of one split."""

    windows: np.ndarray
    """int64 (W, T+1)."""
    document_of: np.ndarray
    """int64 (W, T): index into `documents` of each predicted token. A separator belongs to what it ends."""
    documents: tuple[str, ...]
    digest: str
    """Of the tokens: equal digests, equal losses."""


def batch(split: Split, *, seed: int, update: int, batch_sequences: int, context_tokens: int) -> np.ndarray:
    """The windows of one update: int64 (B, T+1).

    Every pass takes all windows in an order of its own, drawn from (seed, pass); a batch may end one pass and
    begin the next. Nothing else enters, so a run resumes anywhere and lanes do not disturb one another.
    Raises: DataError if the split is shorter than a window.
    """
    assert update >= 0
    num_windows = count_windows(split, context_tokens=context_tokens)
    first = update * batch_sequences
    places = [divmod(place, num_windows) for place in range(first, first + batch_sequences)]
    chosen = [_permutation(seed, number, num_windows)[place] for number, place in places]
    return _windows(split, np.array(chosen, dtype=np.int64), context_tokens)


def evaluation_set(split: Split, *, context_tokens: int, num_tokens: int) -> EvaluationSet:
    """Windows to predict at least `num_tokens` tokens, spread evenly over the split; all if it has no more.

    Raises: DataError if the split is shorter than a window.
    """
    assert num_tokens >= 1
    num_windows = count_windows(split, context_tokens=context_tokens)
    num_chosen = min(num_windows, -(-num_tokens // context_tokens))
    chosen = np.arange(num_chosen, dtype=np.int64) * num_windows // num_chosen
    windows = _windows(split, chosen, context_tokens)
    positions = chosen[:, None] * context_tokens + np.arange(1, context_tokens + 1)
    return EvaluationSet(
        windows=windows,
        document_of=np.searchsorted(split.document_starts, positions, side="right") - 1,
        documents=split.documents,
        digest=digest("blueberry/evaluation/1", str(context_tokens), windows.astype("<u2").tobytes()),
    )


def passes(split: Split, *, num_updates: int, batch_sequences: int, context_tokens: int) -> float:
    """Tokens a run predicts over the different ones among them that its split can offer.

    Raises: DataError if the split is shorter than a window.
    """
    return num_updates * batch_sequences / count_windows(split, context_tokens=context_tokens)


def count_windows(split: Split, *, context_tokens: int) -> int:
    """Windows in a pass. Raises: DataError if there is none."""
    num_windows = (split.tokens.size - 1) // context_tokens
    if num_windows < 1:
        remedy = "" if split.name == "train" else f" or raise data.{split.name}_fraction"
        raise DataError(
            f"model.context_tokens: {context_tokens}; the {split.name} split holds {split.tokens.size} tokens and "
            f"a window needs {context_tokens + 1}; lower model.context_tokens{remedy}"
        )
    return num_windows


def _windows(split: Split, chosen: np.ndarray, context_tokens: int) -> np.ndarray:
    positions = chosen[:, None] * context_tokens + np.arange(context_tokens + 1)
    return split.tokens[positions].astype(np.int64)


@lru_cache(maxsize=64)
def _permutation(seed: int, pass_number: int, num_windows: int) -> np.ndarray:
    """The order of one pass: sorted by random keys, so that it is the same under every version of numpy."""
    shake = hashlib.shake_256(f"blueberry/order/1/{seed}/{pass_number}".encode())
    keys = np.frombuffer(shake.digest(8 * num_windows), dtype="<u8")
    return np.argsort(keys, kind="stable").astype(np.int32)
