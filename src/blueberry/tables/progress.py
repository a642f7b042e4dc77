"""How far runs came: rows that are steps of a run, of which the last counts; words for how it ended or was decided on;
and what settings imply that it was trained on: the batch, what multiplies it, the updates make tokens."""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from blueberry.errors import TableError
from blueberry.records import is_number
from blueberry.tables.columns import MEANINGS, NO_LENGTH, Kind, folded, is_loss, kind_by_name, word_set, words_in
from blueberry.tables.rows import Row, Table, is_finite, last_of

_BATCH = word_set("batch bs bsz batchsize minibatch microbatch")
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
_UPDATES = word_set("it steps step updates update iters iter iterations iteration nsteps niter niters batches")
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


def says_the_batch(name: str) -> bool:
    """Whether a setting says how much an update reads."""
    return _role(name) is not None


def updates_of(names: Sequence[str]) -> str | None:
    """Of columns of lengths the first that counts updates, rather than epochs or tokens."""
    return next((name for name in names if set(words_in(name)) & _UPDATES), None)


def trained_on(
    rows: Sequence[Row], metric: str, kind_of: dict[str, Kind], varied: Collection[str]
) -> tuple[str, dict[str, float]] | None:
    """What runs were trained on, where their settings imply it: a name, e.g. "tokens (batch_size x block_size x
    max_iters)", and how much of it by the place of a row. What is found of columns on the way is entered: a column of
    numbers that no name says to be updates is, where times the batch it is the same in all rows or has one ratio to
    another column, the tokens under whatever name. Settings of one batch that make up for one another are a matter of
    memory.
    """
    ended = [row for row in rows if is_finite(row.values.get(metric))]
    columns: dict[str, list[Any]] = {name: [row.values.get(name) for row in ended] for name in kind_of}
    numeric = {name: [float(one) for one in some] for name, some in columns.items() if all(map(_is_positive, some))}
    factors = _factors(numeric)
    if not factors or not ended:
        return None
    reads = [math.prod(some) for some in zip(*(numeric[name] for name in factors), strict=True)]
    named = [name for name in numeric if kind_of[name] == "length" and set(words_in(name)) & _UPDATES]
    done = [name for name in named if not set(words_in(name)) & _PLANNED]
    others = {n: some for n, some in numeric.items() if n not in factors and kind_of[n] in ("setting", "length")}
    others = {name: some for name, some in others.items() if name in named or not set(words_in(name)) & NO_LENGTH}
    updates = (done or named or [_going_with(reads, others)])[0]
    own = [name for name in factors if name not in varied]
    of_batch = {math.prod(row.values.get(name) or math.nan for name in factors) for row in rows}
    if len(of_batch) == 1 and sum(len({row.values.get(name) for row in rows}) > 1 for name in own) > 1:
        kind_of |= dict.fromkeys(own, "meta")
    if updates is None:
        return None
    amounts = [read * number for read, number in zip(reads, others[updates], strict=True)]
    unnamed = [name for name in others if kind_by_name(name) is None and _varies(others[name])]
    alike = [n for n in unnamed if any(_has_one_ratio(others[n], some) for some in (others[updates], amounts))]
    kind_of |= dict.fromkeys((name for name in (updates, *alike) if name not in varied), "length")
    counted = "tokens" if any(_role(name) in ("context", "tokens") for name in factors) else "sequences"
    by_place = {row.place: amount for row, amount in zip(ended, amounts, strict=True)}
    return f"{counted} ({' x '.join([*factors, updates])})", by_place


def _factors(numeric: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Columns whose product is what an update reads, in tokens or, where nothing says how long one is, sequences."""
    roles: dict[str, str] = {}
    for name in numeric:
        if (role := _role(name)) is not None:
            roles.setdefault(role, name)
    context = [roles["context"]] if "context" in roles else []
    if "tokens" in roles:
        return (roles["tokens"],)
    if "whole" in roles:
        pairs = zip(*(numeric[name] for name in (roles["whole"], *context)), strict=True)
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
    varying = {name: values for name, values in others.items() if _varies(values)}
    for name, values in varying.items() if _varies(reads) else ():
        trained = [read * number for read, number in zip(reads, values, strict=True)]
        totals = [total for other, total in varying.items() if other != name and total[0] > values[0]]
        if _has_one_ratio(trained, [1.0] * len(trained)) or any(_has_one_ratio(trained, one) for one in totals):
            return name
    return None


def _is_positive(value: Any) -> bool:
    return is_finite(value) and value > 0


def _varies(values: Sequence[float]) -> bool:
    return max(values) > min(values)


def _has_one_ratio(one: Sequence[float], other: Sequence[float]) -> bool:
    ratios = [a / b for a, b in zip(one, other, strict=True)]
    return max(ratios) <= min(ratios) * (1 + WITHIN)


# --- How runs ended ---

LEAST_STEPS = 3
"""At which one run was measured, where some of several have ended before others."""
_RATES = (["lr"], ["rate"])
Ending = Literal["completed", "diverged", "crashed", "unfinished"]

_WORDS: dict[Ending, str] = {
    "completed": "completed complete finished success succeeded successful ok done true yes 1 keep kept discard "
    "discarded",
    "diverged": "diverged diverge divergence nan unstable exploded non_finite loss_is_nan",
    "crashed": "crashed crash failed failure fail error killed oom timeout false no 0",
    "unfinished": "running pending queued scheduled preempted unfinished interrupted pruned stopped",
}
ENDINGS: dict[str, Ending] = {word: ending for ending, words in _WORDS.items() for word in words.split()}
"""What a status column may say, and what it means here."""
_SPREAD = re.compile(r"[+-]?[\d.,]+(e[+-]?\d+)?%?\s*(\u00b1|\+/?-|\(\s*(\u00b1|std|sd)?)\s*[\d.]+.*", re.IGNORECASE)
LARGEST = 1e12
"""Of a metric: beyond any perplexity, and far from where squares overflow."""


def decisions_as_endings(table: Table, metric: str, notes: list[str]) -> Table:
    """A loop's table says what became of each change. Other words than keep and discard are decisions too, and a loss
    of exactly 0 is how such loops write that there is none."""
    if not table.is_of_a_loop:
        return table
    notes.append(f"{table.name}: the table of a loop; blueberry judge says which of the changes that it kept stand")
    rows: list[Row] = []
    words: dict[str, None] = {}
    num_zero = 0
    for row in table.rows:
        values, status = dict(row.values), row.values.get("status")
        if status is not None and folded(str(status)) not in ENDINGS:
            words[str(status)] = None
            values["status"] = None
        if is_loss(metric) and values.get(metric) == 0:
            num_zero += status is not None and ENDINGS.get(folded(str(status))) != "crashed"
            values[metric] = None
        rows.append(replace(row, values=values))
    if words:
        shown = ", ".join(f"{word:.30}" for word in [*words][:5])
        notes.append(f"{table.name}: status {shown}: a decision like keep and discard, of a run that ended")
    if num_zero:
        notes.append(f"{table.name}: {num_zero} with a {metric} of exactly 0 are taken to have crashed")
    return replace(table, rows=tuple(rows))


_LEAST_LETTERS = 3
"""Letters of the shortest word for an ending that counts where more is said: "diverged at step 300"."""


def ending_said(cell: Any) -> Ending | None:
    """The ending that a cell names: "diverged", "OOM", "diverged at step 300"; None where it names none."""
    said = folded(cell.casefold()) if isinstance(cell, str) else ""
    first = said.partition("_")[0]
    return ENDINGS.get(said) or (ENDINGS.get(first) if len(first) >= _LEAST_LETTERS else None)


def cells_as_numbers(rows: Sequence[Row], metric: str, kind_of: Mapping[str, Kind], notes: list[str]) -> list[Row]:
    """The rows, with an ending that stands in the place of the metric as their status, and without what is no number
    among other results, which is said. A metric that is neither is left for `measured_ending` to refuse."""
    made: list[Row] = []
    odd: dict[str, str] = {}
    for row in rows:
        values = dict(row.values)
        if ending_said(values.get(metric)) not in (None, "completed"):
            values |= {metric: None, "status": ending_said(values[metric])}
        for name in MEANINGS:
            if name != metric and kind_of.get(name) == "result" and isinstance(values.get(name), (str, bool)):
                if ending_said(values[name]) is None:
                    odd.setdefault(name, f"{row.place}: {values[name]!r:.60}")
                values[name] = None
        made.append(replace(row, values=values))
    notes += [f"{where} is no number of {name}, and is left out" for name, where in odd.items()]
    return made


def has_not_completed(row: Row) -> bool:
    """By its status. Such a run has no number to be paired, and may have ended before it said its seed."""
    return _ending(row) not in (None, "completed")


def measured_ending(row: Row, metric: str) -> Ending:
    """How the run ended. One that says it completed, without a number, has crashed."""
    given = row.values.get(metric)
    if given is not None and not is_number(given):
        shown = f"{given!r:.80}"
        rule, remedy = "the metric is a number, or empty if there is none", "mend"
        if isinstance(given, str) and _SPREAD.fullmatch(given.strip()):
            rule = "a mean with its spread over runs; runs are judged, a row each"
            remedy = "give the runs, or the means without spreads and --sigma"
        raise TableError(f'{row.place} "{metric}": {shown}; {rule}; {remedy}')
    if given is not None and math.isfinite(given) and abs(given) > LARGEST:
        raise TableError(
            f'{row.place} "{metric}": {given!r:.80}; no metric is so large; a run that diverged has no number, or a '
            "status that says so; mend"
        )
    ending = _ending(row)
    if ending in ("crashed", "unfinished"):
        return ending
    if ending == "diverged" or (given is not None and not math.isfinite(given)):
        return "diverged"
    return "crashed" if given is None else "completed"


def _ending(row: Row) -> Ending | None:
    """What the status column says; None where it says nothing."""
    given = row.values.get("status")
    if given is None:
        return None
    said = ending_said(f"{given}")
    if said is None:
        known = ", ".join(_WORDS)
        raise TableError(f'{row.place} "status": {given!r:.80}; no known ending of a run; write one of {known}')
    return said


# --- Steps of a run ---


def last_checkpoints(
    table: Table, kind_of: Mapping[str, Kind], varied: set[str], seeds: Sequence[str], notes: list[str]
) -> list[Row]:
    """The rows, but of those that are steps of one run only the last, with what was last measured of each column."""
    lengths = [name for name, kind in kind_of.items() if kind == "length" and name not in varied]
    if not lengths or table.are_runs:
        return list(table.rows)
    fixed = [*varied, *seeds, "stage"]
    told = [name for name, kind in kind_of.items() if kind == "setting" and name not in varied]
    told = [name for name in told if words_in(name)[-1:] not in _RATES]
    for name, kind in kind_of.items():
        if kind == "label" and len({str(row.values.get(name)) for row in table.rows}) < len(table.rows):
            told.insert(0, name)
    groups = _grouped(table.rows, fixed)
    key = [*fixed, *(name for name in told if not _goes_with_steps(groups, name, lengths))]
    groups = _grouped(table.rows, key)
    rows: list[Row] = []
    ends: list[float] = []
    which = ""
    for group in groups:
        last, steps, first = _last_of(group, lengths)
        rows += last
        if steps:
            rows[-1] = replace(rows[-1], steps=_in_order(group, lengths))
            which = steps
            ends += [first, last[0].values[steps]]
    if which:
        notes.append(
            f"{table.name}: rows are steps of a run ({which} {min(ends):g} to {max(ends):g}); the last of each is "
            f"judged, {len(rows)} of {len(table.rows)} rows"
        )
    order = {row.place: place for place, row in enumerate(table.rows)}
    return sorted(rows, key=lambda row: order[row.place])


def _grouped(rows: Sequence[Row], columns: Sequence[str]) -> list[list[Row]]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row.values.get(name)) for name in columns), []).append(row)
    return list(groups.values())


def _goes_with_steps(groups: Sequence[Sequence[Row]], name: str, lengths: Sequence[str]) -> bool:
    """Whether something only changes as every run goes on: a scale of losses, a temperature, a checkpoint's name."""
    moves = False
    for group in groups:
        values = {str(row.values.get(name)) for row in group}
        if len(values) < 2:
            continue
        pairs = {(tuple(row.values.get(one) for one in lengths), str(row.values.get(name))) for row in group}
        if len({where for where, _ in pairs}) < max(LEAST_STEPS, len(pairs)):
            return False
        moves = True
    return moves


def _last_of(group: list[Row], lengths: Sequence[str]) -> tuple[list[Row], str, float]:
    """The last row of each run, the column that says so, "" where none does, and its first value."""
    steps = next((name for name in lengths if _are_steps([row.values.get(name) for row in group])), None)
    if steps is None:
        return group, "", 0.0
    in_order = sorted(group, key=lambda row: row.values[steps])
    first, last = in_order[0].values[steps], in_order[-1].values[steps]
    at_end = [row for row in in_order if row.values[steps] == last]
    if len(at_end) == 1:
        known = [{name: value for name, value in row.values.items() if value is not None} for row in in_order]
        missing = dict.fromkeys(name for row in in_order for name in row.values)
        return [replace(in_order[-1], values=missing | last_of(known))], steps, first
    within, finer, _ = _last_of(at_end, [name for name in lengths if name != steps])  # steps within an epoch
    return (within if finer else at_end), steps, first


def _in_order(group: Sequence[Row], lengths: Sequence[str]) -> tuple[Mapping[str, Any], ...]:
    known = [name for name in lengths if all(is_number(row.values.get(name)) for row in group)]
    return tuple(row.values for row in sorted(group, key=lambda row: tuple(row.values[name] for name in known)))


def step_of(row: Row, column: str | None) -> str | None:
    """The column that counts the updates of a run's steps: this one if it moves, else by its name one that does. Of a
    tool's own count of what it logged, which begins with an underscore, only where there is no other.
    """
    moving = [name for name in dict.fromkeys(n for step in row.steps for n in step) if _moves(row, name)]
    if column in moving:
        return column
    return updates_of(sorted((n for n in moving if kind_by_name(n) == "length"), key=lambda n: n.startswith("_")))


def _moves(row: Row, name: str) -> bool:
    counts = [step[name] for step in row.steps if is_number(step.get(name))]
    return len(set(counts)) > 1 or len(row.steps) == len(counts) == 1


def until(table: Table, at: float, notes: list[str]) -> Table:
    """The rows up to an update, or each run as it was there by its steps, so that runs of unlike length are judged
    where they were equally long.

    Raises: TableError if no column counts updates, or nothing was measured up to there.
    """
    logged = any(row.steps for row in table.rows)  # else each row is a step
    of_all = None if logged else updates_of([name for name in table.columns if kind_by_name(name) == "length"])
    along = {row.place: (step_of(row, None) if logged else of_all) or "" for row in table.rows}
    steps = [(row.place, step) for row in table.rows for step in (row.steps if logged else (row.values,))]
    counts = [count for place, step in steps if is_number(count := step.get(along[place]))]
    column = next(filter(None, along.values()), None)
    if column is None or not counts:
        rule = "no column counts updates (updates, step, iter); runs are judged at one where rows are their steps"
        raise TableError(f"{table.path} --at {at:g}: {rule}; leave it out")
    if not any(count <= at for count in counts):
        raise TableError(f"{table.path} --at {at:g}: nothing was measured so early; {column} begins at {min(counts):g}")
    if logged:
        kept = tuple(cut for row in table.rows if (cut := _as_it_was(row, along[row.place], at)) is not None)
        what = f"each run as it was there by what it logged, up to {max(counts):g}"
        left = len(table.rows) - len(kept)
        what += f"; {left} runs logged nothing so early" if left else ""
    else:
        kept = tuple(row for row in table.rows if not is_number(count := row.values.get(column)) or count <= at)
        what = f"{len(table.rows) - len(kept)} rows are later, up to {max(counts):g}"
    notes.append(
        f"{table.name}: judged at {column} {at:g}; {what}. "
        "How far a schedule has come there, by its own length, is part of every difference"
    )
    return replace(table, rows=kept)


def _as_it_was(row: Row, along: str, at: float) -> Row | None:
    """A run at an update, by its steps; None where it logged nothing so early.

    What is known of its end alone is missing: lengths, but for those that are the updates under another name, and
    results.
    """
    steps = tuple(step for step in row.steps if is_number(step.get(along)) and step[along] <= at)
    if not steps:
        return None
    end = max(step[along] for step in row.steps if is_number(step.get(along)))
    last = {name: value for step in steps for name, value in step.items() if value is not None}
    logged = {name for step in row.steps for name in step}
    values = {}
    for name, value in row.values.items():
        if name in logged:
            values[name] = last.get(name)
        elif kind_by_name(name) == "length":
            values[name] = last[along] if value == end else None
        else:
            values[name] = None if kind_by_name(name) == "result" else value
    return replace(row, values=values, steps=steps)


def _are_steps(values: Sequence[Any]) -> bool:
    """Whether these are where one run, or each of several, was measured: several numbers, each as often or, where some
    runs have ended before others, ever less often."""
    if not all(map(is_number, values)):
        return False
    counts = [count for _, count in sorted(Counter(values).items())]
    as_often = len(set(counts)) == 1
    return len(counts) > 1 and (
        as_often or (len(counts) >= LEAST_STEPS and counts[0] > 1 and counts == sorted(counts, reverse=True))
    )
