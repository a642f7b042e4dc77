"""A loop that keeps and discards changes: its table, and what to do with one change.

The state is the table alone: its rows in their order are the looks.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from math import isinf, sqrt
from pathlib import Path
from typing import Any

from blueberry.errors import TableError, did_you_mean
from blueberry.judge.words import count, decimals, interval, listing, number, unit
from blueberry.records import Goal
from blueberry.stats.differences import mean_interval
from blueberry.stats.loop import MOST_RUNS, Gap, Look, Run, Tally, judge_change
from blueberry.stats.noise import Borrowed
from blueberry.tables.columns import is_name, kind_by_name, words_in
from blueberry.tables.reading import read_table
from blueberry.tables.roles import differing_settings
from blueberry.tables.rows import DISCARDED, KEPT, Table
from blueberry.tables.runs import TableRuns, table_runs

PROSE = frozenset(("description", "desc", "note", "notes", "comment", "comments", "title", "idea", "message", "change"))
"""Last words of a column that says what a change was: it names no arm."""
REPEAT = re.compile(
    r"\W*((only )?(a |an |new |other |another |different |next |change |random |same )*seeds?\b[^a-z]*(only)?"
    r"|(seed )?(re-?run|repeat|again|same (run|code|config)|noise (check|test|run)).*)",
    re.IGNORECASE,
)
"""What a description says of a change that is none."""
_NUMBERS = re.compile(r"\d+")
LEAST_SHARED = 3
"""Changes under one commit, from which on it is no name of one."""
LONGEST_NAME = 60
"""Characters of a description that is a name."""
NAMES = ("arm", "name", "run", "id", "trial", "experiment")
"""Columns that name arms, the first that a table has; one of commits or hashes goes before them."""


@dataclass(frozen=True)
class Loop:
    """A table of runs as a loop: arms in the order in which they were first tried."""

    name: str
    metric: str
    goal: Goal
    runs: tuple[Run, ...]
    """Those that ended with a number, in the order of the table; values turned round where more is better."""
    arms: tuple[str, ...]
    """That have a run, in order."""
    kept: Mapping[str, bool]
    """Of the arms of which a column says keep or discard."""
    described: Mapping[str, str]
    failed: Mapping[str, str]
    """Of the arms with a run that has no number: how it ended, diverged rather than crashed."""
    num_failed: int
    """Runs without a number."""
    notes: tuple[str, ...]

    @property
    def sign(self) -> int:
        return -1 if self.goal == "maximize" else 1

    def values(self, arm: str) -> list[float]:
        """In the metric, in order."""
        return [self.sign * run.value for run in self.runs if run.arm == arm]


def read_loop(
    path: str | Path,
    *,
    metric: str | None = None,
    goal: Goal | None = None,
    seed: str | None = None,
    name_pattern: str | None = None,
    vary: Sequence[str] = (),
    arms: Sequence[str] = (),
) -> Loop:
    """Read a table, its rows in their order. Arms are told apart by the columns of `vary`; without these by the one
    that has the names in `arms`, which a person gave.

    Raises: TableError if nothing names the arms, or as `table_runs` does.
    """
    wanted = [*vary, *(name for name in (metric, seed) if name is not None)]
    table = read_table(path, wanted=wanted, metric=metric, name_pattern=name_pattern)
    columns = vary or _arm_column(table, arms)
    table = table if vary else _named(table, columns, arms)
    return _loop(table, table_runs(table, columns, metric, goal=goal, seed=seed, least_arms=1))


def _arm_column(table: Table, arms: Sequence[str]) -> list[str]:
    labels = [name for name in table.columns if kind_by_name(name) == "label" and name != "study"]
    having = [name for name in labels if arms and all(_matching(arm, _cells(table, name)) for arm in arms)]
    if arms and not having and any("=" in arm for arm in arms):
        return list(differing_settings(table))
    names = [name for name in labels if (words_in(name) or [""])[-1] not in PROSE]
    ordered = [*filter(is_name, names), *(name for name in NAMES if name in names), *names]
    chosen = [name for name in (*ordered, *labels) if name in having] or ordered
    return [chosen[0]] if chosen else list(differing_settings(table))


def _named(table: Table, columns: Sequence[str], arms: Sequence[str]) -> Table:
    """With a name for each row that has none, what it says of itself, or where it stands: such rows are no one arm.

    Nor are those of a commit that stands for several changes, each with a description of its own, unless a person names
    it: they were not committed one by one.
    """
    if len(columns) != 1 or kind_by_name(columns[0]) != "label":
        return table
    (column,) = columns
    prose = [name for name in table.columns if (words_in(name) or [""])[-1] in PROSE and name != column]
    told = {
        row.place: next((str(row.values[name]) for name in prose if row.values.get(name) is not None), "")
        for row in table.rows
    }
    said: dict[str, set[str]] = {}
    for row in table.rows:
        if told[row.place] and not REPEAT.fullmatch(told[row.place].strip()):
            said.setdefault(str(row.values.get(column)), set()).add(_NUMBERS.sub("", told[row.place].casefold()))
    shared = [name for name, some in said.items() if len(some) >= LEAST_SHARED]
    shared = [name for name in shared if is_name(column) and not any(_matching(arm, [name]) for arm in arms)]
    rows = []
    for row in table.rows:
        if row.values.get(column) is None or str(row.values[column]) in shared:
            row = replace(row, values={**row.values, column: f"{told[row.place] or row.place:.{LONGEST_NAME}}"})
        rows.append(row)
    known = [name for name in shared if name != "None"]
    more = f" and {len(known) - 1} more stand" if len(known) > 1 else " stands"
    note = (f"{table.name}: {known[0]}{more} for several changes, told apart by what they say",) if known else ()
    return replace(table, rows=tuple(rows), notes=(*table.notes, *note))


def _cells(table: Table, column: str) -> list[str]:
    return list(dict.fromkeys(str(row.values[column]) for row in table.rows if row.values.get(column) is not None))


def _matching(given: str, names: Sequence[str]) -> list[str]:
    """The arms that a person means: "a,b" is both as one; a pattern all that fit; the beginning of a commit the one."""
    found: list[str] = []
    for one in (given,) if given in names else tuple(filter(None, map(str.strip, given.split(",")))):
        fits = [name for name in names if name == one] or [name for name in names if fnmatchcase(name, one)]
        begins = [name for name in names if name.startswith(one)] if len(one) >= 4 else []
        fits = fits or (begins if len(begins) == 1 else [])
        if not fits:
            return []
        found += fits
    return found


DECISIONS = {
    **dict.fromkeys((*KEPT, "accept", "accepted", "merged", "promoted", "best", "new_best", "new best"), True),
    **dict.fromkeys((*DISCARDED, "reject", "rejected", "revert", "reverted", "drop", "dropped"), False),
}
"""Words that say whether a change was kept."""
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _said_kept(table: Table) -> dict[str, bool]:
    """By place of a row: what the first column says that says it of any row. One named "kept" may say yes or no."""
    for name in table.columns:
        words = {**DECISIONS, **(_FLAGS if DECISIONS.get((words_in(name) or [""])[-1]) else {})}
        cells = {row.place: str(row.values.get(name)).strip().casefold() for row in table.rows}
        told = {place: words.get(cell, words.get(cell.partition(" ")[0])) for place, cell in cells.items()}
        if any(one is not None for one in told.values()) and kind_by_name(name) not in ("label", "result", "seed"):
            return {place: one for place, one in told.items() if one is not None}
    return {}


def _loop(table: Table, found: TableRuns) -> Loop:
    sign = -1 if found.goal == "maximize" else 1
    at, told_kept = {row.place: row.values for row in table.rows}, _said_kept(table)
    runs: list[Run] = []
    kept: dict[str, bool] = {}
    described: dict[str, str] = {}
    failed: dict[str, str] = {}
    num_failed = num_same = 0
    seen: set[tuple[str, int]] = set()
    prose = [name for name in table.columns if (words_in(name) or [""])[-1] in PROSE]
    for run in found.runs:
        cells = at.get(run.place, {})
        value = run.result.metric(found.metric) if run.result.status == "completed" else None
        if value is None:
            ending = "diverged" if run.result.status == "diverged" else "crashed"
            failed[run.arm] = "diverged" if failed.get(run.arm) == "diverged" else ending
            num_failed += 1
            continue
        if run.seed is not None and (run.arm, run.seed) in seen:
            num_same += 1
            continue
        if run.seed is not None:
            seen.add((run.arm, run.seed))
        runs.append(Run(run.arm, sign * value, run.seed))
        if run.place in told_kept:
            kept[run.arm] = kept.get(run.arm, False) or told_kept[run.place]
        told = next((str(cells[name]) for name in prose if cells.get(name)), None)
        if told is not None:
            described.setdefault(run.arm, told)
    if not runs:
        raise TableError(
            f"{table.path}: no run ended with a number in {found.metric}; there is nothing to judge; add runs"
        )
    arms = tuple(dict.fromkeys(run.arm for run in runs))
    same = f"{table.name}: {count(num_same, 'run')} of an arm on a seed that it has been run on; the first counts"
    told = (note for note in found.notes if "blueberry judge" not in note)
    notes = (*table.notes, *told, *((same,) if num_same else ()))
    return Loop(table.name, found.metric, found.goal, tuple(runs), arms, kept, described, failed, num_failed, notes)


@dataclass(frozen=True)
class Side:
    """One arm of a comparison."""

    arm: str
    n: int
    mean: float | None
    sd: float | None
    interval: tuple[float, float] | None
    """Of the mean, by its own runs alone, at 95%."""


@dataclass(frozen=True)
class Ruling:
    """What the loop should do with one change."""

    loop: Loop
    baseline: Side
    candidate: Side
    look: Look
    position: int
    """Of the change among those tried so far."""
    alpha: float
    borrowed: Borrowed | None

    @property
    def difference(self) -> float | None:
        """Candidate minus baseline, in the metric; None where the candidate has no number."""
        return None if self.look.gap.difference is None else self.loop.sign * self.look.gap.difference

    @property
    def interval(self) -> tuple[float, float] | None:
        ends = self.look.interval
        return ends if ends is None or self.loop.sign > 0 else (-ends[1], -ends[0])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; an unknown number is null."""
        gap = self.look.gap
        return {
            "schema": "blueberry/judge/1",
            "decision": self.look.decision,
            "said": said(self),
            "table": self.loop.name,
            "metric": self.loop.metric,
            "goal": self.loop.goal,
            "baseline": asdict(self.baseline),
            "candidate": asdict(self.candidate),
            "difference": self.difference,
            "interval": None if self.interval is None else list(self.interval),
            "paired": gap.paired,
            "n": [gap.num_baseline, gap.num_candidate],
            "sd": gap.sd,
            "df": "inf" if isinf(gap.df) else gap.df,
            "sigma": "borrowed" if self.borrowed else "measured",
            "sigma_source": self.borrowed.source if self.borrowed else None,
            "evidence": self.look.evidence,
            "evidence_needed": 1 / self.look.error,
            "position": self.position,
            "alpha": self.alpha,
            "alpha_of_change": self.look.error,
            "run_again": {self.baseline.arm: self.look.more_baseline, self.candidate.arm: self.look.more_candidate}
            if self.look.decision == "run again"
            else None,
        }


def rule_change(
    loop: Loop, baseline: str, candidate: str, *, alpha: float = 0.05, sigma: Borrowed | None = None
) -> Ruling:
    """Judge the change `candidate` against `baseline`, each the name of an arm, or of several that are one.

    Raises: TableError if the table has no run of either, or they share one.
    """
    b = _resolved(loop, baseline, "baseline", loop.arms)
    c = _resolved(loop, candidate, "candidate", [*loop.arms, *(arm for arm in loop.failed if arm not in loop.arms)])
    both = [name for name in b if name in c]
    if both:
        raise TableError(
            f"{loop.name}: {both[0]} is baseline and candidate; a change is judged against another arm; name it"
        )
    one_b, one_c = ",".join(b), ",".join(c)
    runs = [Run(one_b if r.arm in b else one_c if r.arm in c else r.arm, r.value, r.seed) for r in loop.runs]
    position = next((place for place, arm in enumerate(loop.arms[1:], 1) if arm in c), 1)
    look = judge_change(runs, one_b, one_c, position=position, alpha=alpha, **noise_given(sigma))
    ends = [loop.failed[arm] for arm in c if arm in loop.failed]
    if "diverged" in ends or not any(arm in loop.arms for arm in c):
        num_b = sum(run.arm == one_b for run in runs)
        gap = Gap(None, num_b, sum(run.arm == one_c for run in runs), None, 0.0)
        look = Look("discard", gap, 0.0, look.error, None)
    sides = [side_of(loop, name, arms) for name, arms in ((one_b, b), (one_c, c))]
    return Ruling(loop, sides[0], sides[1], look, position, alpha, sigma)


def doubt(loop: Loop, sigma: Borrowed) -> str | None:
    """A line where the table's own repeats spread more than borrowed noise allows (chi-squared, at 1%)."""
    from scipy.special import chdtri

    sd, df = Tally(runs=loop.runs).noise()
    if sd is None or sd <= sigma.sd * sqrt(float(chdtri(df, 0.01)) / df):
        return None
    places = places_of(loop, sigma.sd, None)
    own = f"repeats in the table spread by {number(sd, places)} with {freedom(df)}"
    return f"{loop.name}: {own}, more than the borrowed {number(sigma.sd, places)}; leave --sigma out to use theirs"


def _resolved(loop: Loop, given: str, option: str, among: Sequence[str]) -> list[str]:
    found = _matching(given, among)
    if not found:
        rule = "no run of that name" + (" with a number" if given in loop.failed else "")
        raise TableError(f'{loop.name} --{option} "{given}": {rule}{did_you_mean(given, among)}')
    return list(dict.fromkeys(found))


def noise_given(sigma: Borrowed | None) -> dict[str, float]:
    """As the statistics take it."""
    return {} if sigma is None else {"sd": sigma.sd, "df": sigma.df}


def side_of(loop: Loop, name: str, arms: Sequence[str]) -> Side:
    """Of arms that are one, under this name."""
    values = [value for arm in arms for value in loop.values(arm)]
    mean = sum(values) / len(values) if values else None
    sd = None
    if mean is not None and len(values) > 1:
        sd = sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return Side(name, len(values), mean, sd, mean_interval(values, 0.95))


def places_of(loop: Loop, sd: float | None, difference: float | None) -> int:
    """Decimals that show the noise, or where it is not known the difference, to two digits."""
    return decimals(sd or abs(difference or 0.0) or 1e-4)


def said(ruling: Ruling) -> str:
    """The decision, and why, in one line."""
    look, gap = ruling.look, ruling.look.gap
    places = places_of(ruling.loop, gap.sd, gap.difference)
    ends = "" if ruling.interval is None else f" {interval(ruling.interval, places, sign=True)}"
    name = ruling.candidate.arm
    if ruling.difference is None:
        ended = [ruling.loop.failed[arm] for arm in name.split(",") if arm in ruling.loop.failed]
        return f"discard {name}: {'diverged' if 'diverged' in ended else 'crashed'}; it has no number"
    measured = f"{number(ruling.difference, places, sign=True)}{unit(ruling.loop.metric)}{ends}"
    found = f"{measured} against {ruling.baseline.arm}, {basis(ruling)}"
    needed = f"{1 / look.error:.3g} needed of change {ruling.position} at alpha {ruling.alpha:g}"
    weight = f"evidence {look.evidence:.3g}, {needed}"
    if look.decision == "keep":
        return f"keep {name}: {found}; {weight}"
    if look.decision == "discard":
        small = f"so small a gain would not be shown by {MOST_RUNS} runs of each"
        why = "not better so far" if (gap.difference or 0.0) >= 0 else small
        return f"discard {name}: {why}: {found}"
    asked = [
        f"{num} more of {arm}"
        for num, arm in ((look.more_baseline, ruling.baseline.arm), (look.more_candidate, name))
        if num
    ]
    return f"run again, {listing(asked)}: {found}; {weight if gap.sd is not None else _unknown_noise(gap)}"


def _unknown_noise(gap: Gap) -> str:
    if max(gap.num_baseline, gap.num_candidate) > 1:
        return "repeats with one and the same result, as on one seed, tell no noise; run other seeds, or give --sigma"
    return "nothing tells the noise; repeats of the baseline do, for every change to come"


def basis(ruling: Ruling) -> str:
    """What a difference rests on: runs, pairing, noise."""
    gap = ruling.look.gap
    places = places_of(ruling.loop, gap.sd, gap.difference)
    runs = (
        f"{gap.num_candidate} paired seeds"
        if gap.paired
        else f"{gap.num_candidate} against {gap.num_baseline} runs, unpaired"
    )
    if gap.sd is None:
        return f"{runs}, noise unknown"
    if ruling.borrowed is not None:
        return f"{runs}, sd {number(gap.sd, places)} {source_of(ruling.borrowed)}"
    return f"{runs}, sd {number(gap.sd, places)} with {freedom(gap.df)}"


def freedom(df: float) -> str:
    """e.g. "6 degrees of freedom"."""
    return f"{df:.3g} degree{'' if df == 1 else 's'} of freedom"


def source_of(noise: Borrowed) -> str:
    """Where noise that the two arms did not tell is from."""
    own = noise.source.startswith(("from ", "as "))
    return noise.source if own else f"borrowed ({noise.source})"
