"""Which tokens are trained on at which update, which are measured, and how much of these is trained on
too: functions of their arguments alone.

A window is T + 1 consecutive tokens: T inputs and, one later, T to predict. Windows start T apart, so a pass
over them predicts every token once, but for the first and the fewer than T that no whole window reaches.
Only splits of overlapping windows (see `Lot`) have their own: some of those that begin at every token.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from blueberry.errors import DataError
from blueberry.files import digest
from blueberry.recipe import Recipe
from blueberry.text.dataset import Dataset, Mixture, Split

CYCLE = 1000
"""Windows over which a mixture keeps its proportions: a share is a whole number of them."""


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


def batch(split: Split | Mixture, *, seed: int, update: int, batch_sequences: int, context_tokens: int) -> np.ndarray:
    """The windows of one update: int64 (B, T+1).

    Every pass takes all windows in an order of its own, drawn from (seed, pass); a batch may end one pass and
    begin the next. The windows of a mixture's corpora take turns in an order drawn from (seed, cycle), and each
    corpus has passes of its own. Nothing else enters, so a run resumes anywhere and lanes do not disturb one
    another.
    Raises: DataError if the split is shorter than a window.
    """
    assert update >= 0
    places = np.arange(update * batch_sequences, (update + 1) * batch_sequences, dtype=np.int64)
    if isinstance(split, Split):
        return _windows(split, _in_passes(split, places, str(seed), context_tokens), context_tokens)
    corpus_B, place_B = _turns(split, places, seed)
    windows_BT1 = np.empty((batch_sequences, context_tokens + 1), dtype=np.int64)
    for number, part in enumerate(split.parts):
        rows = np.flatnonzero(corpus_B == number)
        chosen = _in_passes(part, place_B[rows], f"{seed}/{split.names[number]}", context_tokens)
        windows_BT1[rows] = _windows(part, chosen, context_tokens)
    return windows_BT1


def evaluation_set(split: Split | Mixture, *, context_tokens: int, num_tokens: int) -> EvaluationSet:
    """Windows to predict at least `num_tokens` tokens, spread evenly over the split; all if it has no more.

    A mixture's are shared out among its corpora; documents are then named "corpus/document".
    Raises: DataError if the split is shorter than a window.
    """
    assert num_tokens >= 1
    if isinstance(split, Mixture):
        return _mixed([
            evaluation_set(part, context_tokens=context_tokens, num_tokens=max(1, round(num_tokens * share)))
            for part, share in zip(split.parts, split.shares, strict=True)
        ], split.names, context_tokens)  # fmt: skip
    num_windows = count_windows(split, context_tokens=context_tokens)
    num_chosen = min(num_windows, -(-num_tokens // context_tokens))
    chosen = np.arange(num_chosen, dtype=np.int64) * num_windows // num_chosen
    windows, stored = _windows(split, chosen, context_tokens), f"<u{split.tokens.itemsize}"
    positions = window_starts(split, chosen, context_tokens)[:, None] + np.arange(1, context_tokens + 1)
    return EvaluationSet(
        windows=windows,
        document_of=np.searchsorted(split.document_starts, positions, side="right") - 1,
        documents=split.documents,
        digest=digest("blueberry/evaluation/1", str(context_tokens), windows.astype(stored).tobytes()),
    )


def count_windows(split: Split, *, context_tokens: int) -> int:
    """Windows in a pass. Raises: DataError if there is none."""
    if split.lot is None:
        num_windows = (split.tokens.size - 1) // context_tokens
    else:
        num_windows = _lot_starts(split, context_tokens).size
    if num_windows < 1:
        remedy = "" if split.name == "train" else f" or raise data.{split.name}_fraction"
        raise DataError(
            f"model.context_tokens: {context_tokens}; the {split.name} split holds {split.tokens.size} tokens and "
            f"a window needs {context_tokens + 1}; lower model.context_tokens{remedy}"
        )
    return num_windows


def require_a_batch(split: Split | Mixture, *, batch_sequences: int, context_tokens: int) -> None:
    """Raises: DataError if an update would need a window twice: of a mixture, each corpus has its share of it."""
    parts = [("", split, 1.0)] if isinstance(split, Split) else zip(split.names, split.parts, split.shares, strict=True)
    for name, part, share in parts:
        num_windows = count_windows(part, context_tokens=context_tokens)
        if num_windows < batch_sequences * share:
            whose, of_it = (f"of {name} ", f"its share of {share:.2g} of ") if name else ("", "")
            raise DataError(
                f"train.batch_sequences: {batch_sequences}; the training split {whose}holds {num_windows} windows of "
                f"{context_tokens} tokens, fewer than {of_it}one update takes; lower train.batch_sequences or give "
                "more text"
            )


def require_fit(dataset: Dataset, recipe: Recipe) -> None:
    """Raises: DataError for whatever training of this recipe on this text would be refused for before it begins."""
    context_tokens = recipe.model.context_tokens
    require_a_batch(dataset.train, batch_sequences=recipe.train.batch_sequences, context_tokens=context_tokens)
    for split in (dataset.train, dataset.validation, dataset.test, *dataset.sets.values()):
        for part in (split,) if isinstance(split, Split) else split.parts:
            count_windows(part, context_tokens=context_tokens)
        if isinstance(split, Mixture):
            _counts_a_cycle(split.shares, split.names)
    if recipe.model.document_mask and dataset.tokenizer.separator is None:
        raise DataError(
            'recipe "model.document_mask": true; no token ends a document in this text; '
            "give data.end_token, or set data.mark_documents = true"
        )


def window_starts(split: Split, chosen: np.ndarray, context_tokens: int) -> np.ndarray:
    """The position in the stream of the first token of these windows, int64 (W,)."""
    return chosen * context_tokens if split.lot is None else _lot_starts(split, context_tokens)[chosen]


def _windows(split: Split, chosen: np.ndarray, context_tokens: int) -> np.ndarray:
    positions = window_starts(split, chosen, context_tokens)[:, None] + np.arange(context_tokens + 1)
    return split.tokens[positions].astype(np.int64)


def _in_passes(split: Split, places: np.ndarray, stream: str, context_tokens: int) -> np.ndarray:
    """The windows at these places of an endless sequence of passes, each in an order of its own."""
    num_windows = count_windows(split, context_tokens=context_tokens)
    turns = (divmod(int(place), num_windows) for place in places)
    chosen = [_permutation(f"order/1/{stream}/{number}", num_windows)[place] for number, place in turns]
    return np.array(chosen, dtype=np.int64)


def _turns(mixture: Mixture, places: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Whose turn it is at each place, and how many turns that corpus has had before: both int64."""
    counts = _counts_a_cycle(mixture.shares, mixture.names)
    corpora, before = [], []
    for cycle, place in (divmod(int(place), CYCLE) for place in places):
        whose = np.repeat(np.arange(len(counts)), counts)[_permutation(f"mixture/1/{seed}/{cycle}", CYCLE)]
        corpora.append(int(whose[place]))
        before.append(cycle * counts[corpora[-1]] + int((whose[:place] == corpora[-1]).sum()))
    return np.array(corpora, dtype=np.int64), np.array(before, dtype=np.int64)


@lru_cache(maxsize=8)
def _counts_a_cycle(shares: tuple[float, ...], names: tuple[str, ...]) -> tuple[int, ...]:
    """Whole windows of a cycle for each corpus: rounded down, the rest to the largest remainders.

    Raises: DataError if a share is less than one window in a cycle.
    """
    exact = np.array(shares) * CYCLE
    counts = np.floor(exact + 1e-9).astype(int)
    for number in np.argsort(-(exact - counts), kind="stable")[: CYCLE - counts.sum()]:
        counts[number] += 1
    for name, count, share in zip(names, counts, shares, strict=True):
        if count < 1:
            raise DataError(
                f"data.mixture.{name}.weight: its share is {share:.2g}; the least is {1 / CYCLE:g}; raise it or "
                "leave that corpus out"
            )
    return tuple(int(count) for count in counts)


def _mixed(held_out: list[EvaluationSet], names: tuple[str, ...], context_tokens: int) -> EvaluationSet:
    firsts = np.cumsum([0, *(len(one.documents) for one in held_out)])
    windows = np.concatenate([one.windows for one in held_out])
    return EvaluationSet(
        windows=windows,
        document_of=np.concatenate([one.document_of + first for one, first in zip(held_out, firsts, strict=False)]),
        documents=tuple(f"{name}/{doc}" for name, one in zip(names, held_out, strict=True) for doc in one.documents),
        digest=digest("blueberry/evaluation/1", str(context_tokens), *(one.digest for one in held_out)),
    )


def _lot_starts(split: Split, context_tokens: int) -> np.ndarray:
    """Where this split's overlapping windows begin, ascending."""
    assert split.lot is not None
    return _lot(max(split.tokens.size - context_tokens, 0), split.lot.start, split.lot.stop)


@lru_cache(maxsize=8)
def _lot(num_windows: int, start: float, stop: float) -> np.ndarray:
    shuffled = _permutation("lots/1", num_windows)
    return np.sort(shuffled[round(start * num_windows) : round(stop * num_windows)]).astype(np.int64)


@lru_cache(maxsize=256)  # a stream for each seed of a group and each corpus of a mixture
def _permutation(stream: str, num_windows: int) -> np.ndarray:
    """The order of one pass: sorted by random keys, so that it is the same under every version of numpy."""
    shake = hashlib.shake_256(f"blueberry/{stream}".encode())
    keys = np.frombuffer(shake.digest(8 * num_windows), dtype="<u8")
    return np.argsort(keys, kind="stable").astype(np.int32)


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
