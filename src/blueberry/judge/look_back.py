"""A loop looked back at: which of the changes that it kept stand, and what to run again first."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isinf
from typing import Any, Literal

from blueberry.errors import TableError
from blueberry.judge import loop as loops
from blueberry.judge.loop import Loop, Ruling
from blueberry.judge.words import count, interval, listing, number, unit
from blueberry.stats import loop as stats
from blueberry.stats.differences import cautious_sd, spread
from blueberry.stats.loop import Run, Tally, Trial
from blueberry.stats.noise import Borrowed


@dataclass(frozen=True)
class Change:
    """One change of a loop, judged by all of the table's runs."""

    arm: str
    described: str
    baseline: str
    """What was kept when it was tried."""
    kept: bool
    ruling: Ruling
    needed_sd: float | None
    """The largest noise at which its gain would be kept; None where it is no gain."""
    chance_of_null: float | None
    """That it is no improvement; None where the noise is not known."""

    @property
    def stands(self) -> bool:
        return self.kept and self.ruling.look.decision == "keep"


@dataclass(frozen=True)
class LookBack:
    """A whole loop, looked back at."""

    loop: Loop
    alpha: float
    changes: tuple[Change, ...]
    noise: Borrowed | None
    """None where nothing tells it."""
    noise_kind: Literal["measured", "described", "borrowed", "bound", "unknown"]
    """From repeats; from changes of a seed alone, by their descriptions; from elsewhere; at most so much."""
    kept_by_chance: float
    """Changes that such a loop keeps if none does anything, each is run once and the best wins."""
    total: Ruling | None
    """The last that was kept against the first, on runs that chose neither; None where nothing was kept."""
    claimed: float
    """The same by the runs that chose: what the loop would report."""
    expected: float | None
    """The same by all values of the loop at once, which corrects for the luck of those that were kept."""

    @property
    def keeps(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.kept)

    @property
    def num_repeats(self) -> int:
        """Runs beyond the first of each arm."""
        return len(self.loop.runs) - len(self.loop.arms)

    @property
    def expected_null(self) -> float | None:
        """Of the kept changes, how many are no improvement."""
        chances = [change.chance_of_null for change in self.keeps]
        return None if None in chances else float(sum(one for one in chances if one is not None))

    @property
    def needed_sd(self) -> float | None:
        """At which all kept changes would stand; None where one is no gain at all."""
        needed = [change.needed_sd for change in self.keeps]
        return None if not needed or None in needed else min(one for one in needed if one is not None)

    @property
    def run_first(self) -> Ruling | None:
        """What to run again first: of the kept changes that do not stand, the one that takes fewest runs to settle."""
        asked = [one.ruling for one in self.keeps if one.ruling.look.decision == "run again"]
        return min(asked, key=_cheapest, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; an unknown number is null."""
        first = self.run_first
        return {
            "schema": "blueberry/loop/1",
            "said": sentences(self),
            "table": self.loop.name,
            "metric": self.loop.metric,
            "goal": self.loop.goal,
            "alpha": self.alpha,
            "runs": len(self.loop.runs),
            "failed": self.loop.num_failed,
            "repeats": self.num_repeats,
            "noise": {
                "kind": self.noise_kind,
                "sd": self.noise and self.noise.sd,
                "df": self.noise and ("inf" if isinf(self.noise.df) else self.noise.df),
            },
            "needed_sd": self.needed_sd,
            "kept": len(self.keeps),
            "stand": [one.arm for one in self.keeps if one.stands],
            "expected_null": self.expected_null,
            "kept_by_chance": self.kept_by_chance,
            "run_first": None if first is None else first.to_dict()["run_again"],
            "claimed": self.claimed,
            "expected": self.expected,
            "total": None if self.total is None else self.total.to_dict(),
            "changes": [
                {
                    "arm": one.arm,
                    "description": one.described,
                    "baseline": one.baseline,
                    "kept": one.kept,
                    "stands": one.stands,
                    "difference": one.ruling.difference,
                    "interval": None if one.ruling.interval is None else list(one.ruling.interval),
                    "n": [one.ruling.look.gap.num_baseline, one.ruling.look.gap.num_candidate],
                    "needed_sd": one.needed_sd,
                    "chance_of_null": one.chance_of_null,
                    "decision": one.ruling.look.decision,
                }
                for one in self.changes
            ],
        }


def _cheapest(ruling: Ruling) -> tuple[float, float]:
    return ruling.look.more_baseline + ruling.look.more_candidate, ruling.look.gap.difference or 0.0


def look_back(loop: Loop, *, alpha: float = 0.05, sigma: Borrowed | None = None) -> LookBack:
    """Judge every change of a loop against what was kept when it was tried. Raises: TableError below two arms."""
    if not loop.arms[1:]:
        raise TableError(f"{loop.name}: every run is of {loop.arms[0]}; a loop tries changes; add the runs of one")
    kept, baselines = _lineage(loop)
    noise, kind = _noise(loop, baselines, sigma)
    given = None if kind == "measured" else noise
    rulings = {arm: loops.rule_change(loop, baselines[arm], arm, alpha=alpha, sigma=given) for arm in loop.arms[1:]}
    seen: stats.Hindsight | None = None
    if noise is not None:
        first_one, *others = (_trial(loop, arm, arm in kept) for arm in loop.arms)
        seen = stats.hindsight(first_one, others, cautious_sd(noise.sd, noise.df))
    changes = tuple(
        Change(
            arm,
            loop.described.get(arm, ""),
            baselines[arm],
            arm in kept,
            ruling,
            stats.needed_sd(ruling.look.gap, ruling.look.error),
            None if seen is None else seen.chances_of_null[place],
        )
        for place, (arm, ruling) in enumerate(rulings.items())
    )
    first = loop.arms[0]
    last = kept[-1] if kept else first
    total = None if last == first else _total(loop, first, last, alpha, given)
    claimed = loop.values(last)[0] - loop.values(first)[0]
    by_chance = stats.kept_by_chance(len(loop.arms) - 1)
    expected = None if seen is None else loop.sign * seen.gain
    return LookBack(loop, alpha, changes, noise, kind, by_chance, total, claimed, expected)


def _lineage(loop: Loop) -> tuple[list[str], dict[str, str]]:
    """The kept changes in order, and for each change what was kept before it.

    By the table's own words; where it has none, a change was kept when its first run was better than all that was kept.
    """
    kept: list[str] = []
    baselines: dict[str, str] = {}
    first = {run.arm: run.value for run in reversed(loop.runs)}
    for arm in loop.arms[1:]:
        baselines[arm] = before = kept[-1] if kept else loop.arms[0]
        if loop.kept.get(arm, False) if loop.kept else first[arm] < first[before]:
            kept.append(arm)
    return kept, baselines


def _noise(
    loop: Loop, baselines: Mapping[str, str], sigma: Borrowed | None
) -> tuple[Borrowed | None, Literal["measured", "described", "borrowed", "bound", "unknown"]]:
    if sigma is not None:
        return sigma, "borrowed"
    sd, df = Tally(runs=loop.runs).noise()
    if sd is not None:
        return Borrowed(sd, df, "from repeats"), "measured"
    alike = {arm: _root(arm, baselines, loop.described) for arm in loop.arms}
    tally = Tally(runs=[Run(alike[run.arm], run.value) for run in loop.runs])
    sd, df = tally.noise()
    if sd is not None:
        same = [arm for arm in loop.arms if alike[arm] != arm]
        return Borrowed(sd, df, f"from {listing(same)}, by the description a repeat"), "described"
    kept = set(baselines.values())
    tried = [
        run.value - tally.values(baselines[run.arm])[0]
        for run in loop.runs
        if run.arm in baselines and run.arm not in kept
    ]
    bound = spread(tried)
    if bound is not None:
        return Borrowed(bound, source="as the discarded spread, changes and noise together"), "bound"
    return None, "unknown"


def _root(arm: str, baselines: Mapping[str, str], described: Mapping[str, str]) -> str:
    """What an arm repeats, by its description; itself where it changes something."""
    while arm in baselines and loops.REPEAT.fullmatch(described.get(arm, "").strip()):
        arm = baselines[arm]
    return arm


def _trial(loop: Loop, arm: str, kept: bool) -> Trial:
    values = [run.value for run in loop.runs if run.arm == arm]
    return Trial(sum(values) / len(values), len(values), kept)


def _total(loop: Loop, first: str, last: str, alpha: float, sigma: Borrowed | None) -> Ruling:
    """Without the run that chose the last one, where it has been run again."""
    chose = next(place for place, run in enumerate(loop.runs) if run.arm == last)
    runs = loop.runs[:chose] + loop.runs[chose + 1 :] if len(loop.values(last)) > 1 else loop.runs
    only = [run for run in runs if run.arm in (first, last)]
    others = [run for run in runs if run.arm not in (first, last)]
    told = Loop(loop.name, loop.metric, loop.goal, tuple(others + only), loop.arms, loop.kept, {}, {}, 0, ())
    look = stats.judge_change(told.runs, first, last, position=1, alpha=alpha, **loops.noise_given(sigma))
    return Ruling(told, loops.side_of(told, first, [first]), loops.side_of(told, last, [last]), look, 1, alpha, sigma)


BOUND = "at most about so much: nothing was repeated, and so the discarded spread, changes and noise together"


def sentences(back: LookBack) -> list[str]:
    """What a loop has shown and what it has not, in order of importance."""
    loop, keeps = back.loop, back.keeps
    places = loops.places_of(loop, back.noise and back.noise.sd, back.claimed)
    num_changes = len(loop.arms) - 1
    failed = f", {loop.num_failed} without a number" if loop.num_failed else ""
    lines = [
        f"{loop.name}: {count(len(loop.runs), 'run')} with a {loop.metric}, {count(num_changes, 'change')} after "
        f"{loop.arms[0]}: {len(keeps)} kept, {num_changes - len(keeps)} discarded{failed}"
    ]
    if back.noise is None:
        lines.append("noise: unknown; no arm was repeated")
    else:
        words = BOUND if back.noise_kind == "bound" else loops.source_of(back.noise)
        known = "" if isinf(back.noise.df) else f" with {loops.freedom(back.noise.df)}"
        lines.append(f"noise: sd of one run {number(back.noise.sd, places)}{known}, {words}")
    if keeps:
        standing = [one.arm for one in keeps if one.stands]
        which = f": {listing(standing)}" if standing else ""
        lines.append(f"stand at alpha {back.alpha:g} over the whole loop: {len(standing)} of {len(keeps)} kept{which}")
        if back.needed_sd is not None and len(standing) < len(keeps):
            lines.append(f"for all to stand, the sd of one run had to be {back.needed_sd:.2g} or less")
        if back.expected_null is not None:
            lines.append(f"expected to be no improvement: {back.expected_null:.1f} of the {len(keeps)} kept")
    if 1 < num_changes > back.num_repeats:
        lines.append(
            f"by chance alone: {count(num_changes, 'change')} that do nothing, run once each, keep "
            f"{back.kept_by_chance:.1f} on average"
        )
    lines += _what_next(back, places)
    share = back.num_repeats / len(loop.runs)
    lines.append(f"spent on repeats: {back.num_repeats} of {len(loop.runs)} runs ({share:.0%})")
    return lines


def _what_next(back: LookBack, places: int) -> list[str]:
    lines, loop, total = [], back.loop, back.total
    if total is not None:
        gap = total.look.gap
        measured = min(gap.num_baseline, gap.num_candidate) > 1 or (back.noise_kind == "borrowed")
        ends = f" {interval(total.interval, places, sign=True)}" if total.interval is not None else ""
        found = f"{number(total.difference, places, sign=True)}{unit(loop.metric)}{ends}"
        pair = f"{total.candidate.arm} against {total.baseline.arm}"
        claim = f"the runs that chose say {number(back.claimed, places, sign=True)}"
        if back.expected is not None:
            claim += f", all values at once {number(back.expected, places, sign=True)}"
        if measured:
            lines.append(f"total: {pair} measured again {found}, {loops.basis(total)}; {claim}")
        else:
            lines.append(f"total: {pair}: {claim}; run both again, 4 times each, to know")
    first = back.run_first
    if first is not None:
        asked = {first.baseline.arm: first.look.more_baseline, first.candidate.arm: first.look.more_candidate}
        lines.append(f"run again first: {listing([f'{num} more of {arm}' for arm, num in asked.items() if num])}")
    return lines
