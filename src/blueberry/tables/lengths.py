"""What a run's settings imply of its length: the batch, whatever multiplies it, and the updates make tokens."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from blueberry.tables.columns import Kind, kind_by_name, word_set, words_in
from blueberry.tables.rows import Row, is_finite

_BATCH = word_set("batch bs batchsize minibatch microbatch")
_WHOLE = word_set("global effective total")
"""Of a batch: over all devices and accumulated steps."""
_ACCUMULATION = word_set("accumulation accum accumulate accumulated")
_WORLD = word_set("world_size num_gpus n_gpus ngpus gpus num_devices n_devices devices num_processes")
_CONTEXT = word_set(
    """
    block_size context context_length context_len context_size context_window context_tokens ctx ctx_len n_ctx seq_len
    seqlen seq_length sequence_length max_seq_len max_seq_length sequence_len max_length tokens_per_sequence
    """
)
_UPDATES = word_set("steps step updates update iters iter iterations iteration nsteps niter niters batches")
_PLANNED = word_set("max num total n")
_NOT_TRAINED_WITH = word_set(
    """
    eval evaluate evaluation val valid validation test warmup norm time seconds sec ms save log logging every interval
    inference generation epoch epochs
    """
)
TOKENS_FROM = 16_384
"""A total batch from which it is counted in tokens, if it is a multiple of the context."""
WITHIN = 0.02
"""Relative: what rounding to whole updates hides."""


@dataclass(frozen=True)
class Spent:
    """What each run was trained on, as its settings imply it."""

    factors: tuple[str, ...]
    """Columns whose product is what an update reads, in tokens or, where nothing says how long one is, sequences."""
    updates: str | None
    """The column of updates; None where there is none."""
    amounts: Mapping[str, float]
    """By place of the row, the product of all."""
    alike: tuple[str, ...] = ()
    """Columns of numbers that go with the updates or with the product, and that no name says to be something else."""

    @property
    def name(self) -> str:
        """e.g. "tokens (batch_size x block_size x max_iters)"; of sequences nothing says how long they are."""
        counted = "tokens" if any(_role(name) in ("context", "tokens") for name in self.factors) else "sequences"
        return f"{counted} ({' x '.join([*self.factors, *([self.updates] if self.updates else [])])})"


def says_the_batch(name: str) -> bool:
    """Whether a setting says how much an update reads."""
    return _role(name) is not None


def updates_of(names: Sequence[str]) -> str | None:
    """Of columns of lengths the first that counts updates, rather than epochs or tokens."""
    return next((name for name in names if set(words_in(name)) & _UPDATES), None)


def spent(rows: Sequence[Row], kind_of: Mapping[str, Kind]) -> Spent | None:
    """What the settings of these rows imply; None where no batch, or nothing that multiplies it, is in all of them.

    A column of numbers that no name says to be updates is, where times the batch it is the same in all rows, or has one
    ratio to another column: the tokens, under whatever name.
    """
    numeric = [name for name in kind_of if all(is_finite(v) and v > 0 for v in (row.values.get(name) for row in rows))]
    factors = _factors(rows, numeric)
    if not factors or not rows:
        return None
    reads = [math.prod(float(row.values[name]) for name in factors) for row in rows]
    named = [name for name in numeric if kind_of[name] == "length" and set(words_in(name)) & _UPDATES]
    done = [name for name in named if not set(words_in(name)) & _PLANNED]
    others = {name: [float(row.values[name]) for row in rows] for name in numeric if name not in factors}
    others = {name: values for name, values in others.items() if kind_of[name] in ("setting", "length")}
    updates = (done or named or [_going_with(reads, others)])[0]
    each = others[updates] if updates else [1.0] * len(rows)
    amounts = {row.place: read * number for row, read, number in zip(rows, reads, each, strict=True)}
    unnamed = {name: values for name, values in others.items() if kind_by_name(name) is None}
    alike = [
        name
        for name, values in unnamed.items()
        if updates
        and max(values) > min(values)
        and any(_is_one([a / b for a, b in zip(values, some, strict=True)]) for some in (each, list(amounts.values())))
    ]
    return Spent(factors, updates, amounts, tuple(alike))


def _factors(rows: Sequence[Row], numeric: Sequence[str]) -> tuple[str, ...]:
    roles: dict[str, str] = {}
    for name in numeric:
        if (role := _role(name)) is not None:
            roles.setdefault(role, name)
    context = [roles["context"]] if "context" in roles else []
    if "tokens" in roles:
        return (roles["tokens"],)
    if "whole" in roles:
        pairs = [[row.values[name] for name in (roles["whole"], *context)] for row in rows]
        in_tokens = context and all(whole >= TOKENS_FROM and whole % one == 0 for whole, one in pairs)
        return (roles["whole"], *([] if in_tokens else context))
    found = [roles[role] for role in ("batch", "accumulation", "world") if role in roles]
    return (*found, *context) if "batch" in roles else ()


def _role(name: str) -> str | None:
    """What a column is of a batch: itself, all of it, in tokens, or what multiplies it."""
    among, plain = set(words_in(name)), "_".join(words_in(name.rpartition(".")[2]))
    if plain in _CONTEXT:
        return "context"
    if plain in _WORLD:
        return "world"
    if among & _NOT_TRAINED_WITH:
        return None
    if among & _ACCUMULATION:
        return "accumulation"
    if among & {"tokens", "toks"} and (among & _BATCH or ("per" in among and among & _UPDATES)):
        return "tokens"
    if among & _BATCH:
        return "whole" if among & _WHOLE else "batch"
    return None


def _going_with(reads: Sequence[float], others: Mapping[str, Sequence[float]]) -> str | None:
    """The column that, times what an update reads, is one number in all rows, or one ratio to another column."""
    varying = {name: values for name, values in others.items() if max(values) > min(values)}
    if max(reads) == min(reads):
        return None
    for name, values in varying.items():
        trained = [read * number for read, number in zip(reads, values, strict=True)]
        totals = [total for other, total in varying.items() if other != name and total[0] > values[0]]
        if _is_one(trained) or any(_is_one([a / b for a, b in zip(trained, one, strict=True)]) for one in totals):
            return name
    return None


def _is_one(values: Sequence[float]) -> bool:
    return max(values) <= min(values) * (1 + WITHIN)
