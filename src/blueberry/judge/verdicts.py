"""Verdicts: every arm against the best and against the baseline, as one rule has compared them; and races, in which
arms get more seeds, look by look, as long as that rule leaves something about them open.

The rule (`against_best`, `against_baseline`) gives each comparison an interval, and all that is said of it follows: a
verdict is a winner's where the interval excludes 0, an arm's status is `worse` where that against the best does, and
the seeds that would settle it are counted at its error. So they cannot contradict one another.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from blueberry.judge import words
from blueberry.judge.judgement import BASELINE, LEAST_BLOCKS, Judgement, Verdict
from blueberry.stats.differences import Decision, Df, decide, decide_diverged, more_seeds
from blueberry.stats.noise import Borrowed
from blueberry.stats.unresolved import Compared, against_baseline, against_best, best_arm

if TYPE_CHECKING:
    from blueberry.judge.evidence import Measured


@dataclass(frozen=True)
class Ruling:
    """What was decided of one row against another, the reference, at the look that decided it or the last one."""

    reference: int
    compared: Compared
    decision: Decision
    """With the reference as a and the row as b."""

    def turned(self, row: int) -> "Ruling":
        """The reference against the row."""
        ends, better = self.decision.interval, self.decision.b_is_better
        turned = replace(
            self.decision,
            interval=None if ends is None else (-ends[1], -ends[0]),
            b_is_better=None if better is None else not better,
        )
        return Ruling(row, self.compared.turned(), turned)


@dataclass(frozen=True)
class Rulings:
    """What the tables of a study's looks have decided: one table where the number of seeds was fixed beforehand."""

    best: int | None
    """The row of least mean among the contenders; None when every row diverged or is missing."""
    contenders: tuple[int, ...]
    """Rows that `best` is chosen from: that never diverged and were not called worse than the best, or the baseline."""
    on_best: dict[int, Ruling]
    """Every other row against the best; in a race, of a dropped row that no look tells from the best, against the row
    that led when it was dropped."""
    on_baseline: dict[int, Ruling]
    """Every other row against the baseline; empty without one."""

    def renumbered(self, rows: Sequence[int]) -> "Rulings":
        """The same said of a table that has these rows in it: row i here is `rows[i]` there."""
        on_best, on_baseline = (
            {rows[row]: replace(ruling, reference=rows[ruling.reference]) for row, ruling in group.items()}
            for group in (self.on_best, self.on_baseline)
        )
        best = None if self.best is None else rows[self.best]
        return Rulings(best, tuple(rows[row] for row in self.contenders), on_best, on_baseline)


def rule(
    tables: Sequence[np.ndarray],
    *,
    alpha: float,
    min_effect: float,
    baseline: int | None = None,
    borrowed: Borrowed | None = None,
) -> Rulings:
    """Rule on every row. `alpha` is the error of one look; tables of later looks have the seeds of earlier ones first.

    Without a baseline the question is which row is best: a row that a look calls worse is out, whatever comes later.
    With one there are two questions, each with this error: how each row differs from the baseline, decided at the
    first look that can; and which of the other rows is best. A row that has lost to the baseline is not the best, nor
    is the baseline where a row has won against it.
    Shapes: (K, n) each, NaN missing, infinity diverged.
    """
    last_KN, asked = tables[-1], _Asked(alpha, min_effect, borrowed)
    diverged = [row for row in range(len(last_KN)) if np.isinf(last_KN[row]).any()]
    finite = [row for row in range(len(last_KN)) if row not in diverged]
    if baseline is None:
        on_best, left, best = _by_elimination(tables, range(len(last_KN)), asked)
        left = [row for row in left if row in finite]
        if best is not None:
            led, _, _ = _by_elimination(tables, range(len(last_KN)), asked, best)
            on_best |= {row: led[row] for row in finite if row not in left and led[row].compared.is_worse}
            on_best |= _on_best(last_KN, [best, *diverged], best, asked)
            on_best.pop(best, None)  # against one that led earlier
        return Rulings(best, tuple(left), on_best, {})
    on_baseline = _on_baseline(tables, baseline, asked)
    left = [row for row in finite if row == baseline or on_baseline[row].decision.b_is_better is not False]
    if any(on_baseline[row].decision.b_is_better for row in left if row != baseline):
        left = [row for row in left if row != baseline]
    best = _least(last_KN, left, asked)
    if best is None or best == baseline:
        return Rulings(best, tuple(left), on_baseline if best is not None else {}, on_baseline)
    to_beat = on_baseline[best].turned(best)
    others = [row for row in range(len(last_KN)) if row != baseline]
    on_best, _, _ = _by_elimination(
        tables, others, asked, best, num_others=int(to_beat.decision.b_is_better is not False)
    )
    on_best[baseline] = to_beat
    return Rulings(best, tuple(left), on_best, on_baseline)


@dataclass(frozen=True)
class _Asked:
    alpha: float
    min_effect: float
    borrowed: Borrowed | None


def _least(values_KN: np.ndarray, rows: Sequence[int], asked: _Asked) -> int | None:
    row = best_arm(values_KN[list(rows)], asked.borrowed)
    return None if row is None else rows[row]


def _on_baseline(tables: Sequence[np.ndarray], baseline: int, asked: _Asked) -> dict[int, Ruling]:
    """At the first look that decides, or the last."""
    found: dict[int, Ruling] = {}
    for seen_KN in tables:
        for row, one in _compared(seen_KN.tobytes(), seen_KN.shape, None, baseline, 0, asked).items():
            if row not in found or found[row].decision.verdict == "inconclusive":
                found[row] = _rule(seen_KN, baseline, row, one, asked)
    return found


def _by_elimination(
    tables: Sequence[np.ndarray], rows: Iterable[int], asked: _Asked, best: int | None = None, num_others: int = 0
) -> tuple[dict[int, Ruling], list[int], int | None]:
    """Rulings on these rows against the best of those left at each look, or this one at all; the rows left; the last
    look's best, None where all of them diverged.
    """
    found: dict[int, Ruling] = {}
    left, leader = list(rows), best
    for seen_KN in tables:
        leader = _least(seen_KN, left, asked) if best is None else best
        if leader is None:
            break
        found |= _on_best(seen_KN, left, leader, asked, num_others)
        left = [row for row in left if row == leader or not found[row].compared.is_worse]
    return found, left, leader


def _on_best(
    seen_KN: np.ndarray, rows: Sequence[int], best: int, asked: _Asked, num_others: int = 0
) -> dict[int, Ruling]:
    compared = _compared(seen_KN.tobytes(), seen_KN.shape, tuple(rows), best, num_others, asked)
    return {row: _rule(seen_KN, best, row, one, asked) for row, one in compared.items()}


@lru_cache(maxsize=64)  # each look of a race takes those before it again
def _compared(
    values: bytes, shape: tuple[int, int], rows: tuple[int, ...] | None, reference: int, num_others: int, asked: _Asked
) -> Mapping[int, Compared]:
    """Of these rows against the best, the reference; None: of all against the baseline."""
    seen_KN = np.frombuffer(values).reshape(shape)
    more: dict[str, Any] = {"alpha": asked.alpha, "borrowed": asked.borrowed}
    if rows is None:
        return against_baseline(seen_KN, reference, **more)
    return against_best(seen_KN, among=rows, best=reference, num_others=num_others, **more)


def _rule(seen_KN: np.ndarray, reference: int, row: int, compared: Compared, asked: _Asked) -> Ruling:
    pair = compared.pair
    if pair.difference is not None and math.isinf(pair.difference):
        both_2N = seen_KN[[reference, row]]
        if pair.is_paired:
            both_2N = both_2N[:, ~np.isnan(both_2N).any(axis=0)]
        diverged, runs = (tuple(map(int, one)) for one in (np.isinf(both_2N).sum(axis=1), _counts(both_2N)))
        return Ruling(reference, compared, decide_diverged((diverged[0], diverged[1]), (runs[0], runs[1])))
    given = {"alpha": 2 * compared.error, "tie_alpha": asked.alpha, "min_effect": asked.min_effect}
    return Ruling(reference, compared, decide(pair, interval=compared.interval, **given))


def _counts(values_KN: np.ndarray) -> np.ndarray:
    return (~np.isnan(values_KN)).sum(axis=1)


def compare(measured: "Measured") -> tuple[Verdict, ...]:
    """Verdicts on each arm against the best one (a), then against the baseline (a) when there is one that is not best.

    Of an arm that a race has dropped, and that no look tells from the best, a is the arm that led when it was.
    """
    rulings = measured.rulings
    if rulings.best is None:
        return ()
    groups = [rulings.on_best]
    if rulings.on_baseline and rulings.on_baseline is not rulings.on_best:
        groups.append(rulings.on_baseline)
    return tuple(_verdict(measured, group[row], row) for group in groups for row in sorted(group))


def _verdict(measured: "Measured", ruling: Ruling, row: int) -> Verdict:
    pair, decision = ruling.compared.pair, ruling.decision
    if not measured.can_judge or (decision.verdict == "inconclusive" and decision.interval is None):
        decision = _withheld(measured, ruling)
    winner = None
    if decision.b_is_better is not None:
        winner = measured.arm(row if decision.b_is_better else ruling.reference).name
    return Verdict(
        a=measured.arm(ruling.reference).name,
        b=measured.arm(row).name,
        difference=pair.difference,
        interval=decision.interval,
        n=pair.n,
        runs=pair.runs,
        paired=pair.is_paired,
        sigma="borrowed" if pair.is_borrowed else "measured",
        by="best run" if pair.is_of_best_run else "means",
        verdict=decision.verdict,
        winner=winner,
        more_seeds=decision.more_seeds,
    )


def _withheld(measured: "Measured", ruling: Ruling) -> Decision:
    """Where there are too few runs to tell two arms apart: no interval either, as that alone would tell them apart.

    The runs that are missing are not always enough: how many more would settle it is said at the noise that the other
    arms have; unknown where there is none, or no difference.
    """
    pair, noise, evidence = ruling.compared.pair, measured.noise, measured.evidence
    typical, more = noise.typical, None
    if pair.difference is not None and math.isfinite(pair.difference) and typical is not None:
        size = max(float(np.median(_counts(measured.values_KN))), 2.0)
        more = more_seeds(
            pair.difference,
            math.sqrt(typical.value),
            pair.size,
            Df.of(typical.df, size, is_borrowed=noise.borrowed is not None),
            alpha=2 * ruling.compared.error,
            tie_alpha=evidence.alpha / evidence.looks,
            min_effect=evidence.min_effect,
        )
    return Decision("inconclusive", None, None, None if more is None else max(more, LEAST_BLOCKS - pair.n, 1))


def runs_of(verdicts: Sequence[Verdict]) -> str:
    """What some differences were taken between, e.g. "5 seeds", "3 to 16 seeds", "10 runs each, unpaired"."""
    said = []
    if pairs := [v.n for v in verdicts if v.paired and v.n]:
        least, most = min(pairs), max(pairs)
        said.append(words.count(most, "seed") if least == most else f"{least} to {most} seeds")
    if runs := [n for v in verdicts if not v.paired for n in v.runs if n]:
        least, most = min(runs), max(runs)
        said.append(
            f"{words.count(most, 'run')} each, unpaired" if least == most else f"{least} to {most} runs, unpaired"
        )
    borrowed = ", on borrowed noise" if any(v.sigma == "borrowed" for v in verdicts) else ""
    return f"{words.listing(said) or 'these runs'}{borrowed}"


def told_borrowed(judgement: Judgement) -> list[str]:
    """What claims rest on that these runs did not measure, in a sentence; none where they did."""
    noise = judgement.noise
    if noise.borrowed_sd is None or judgement.is_located:
        return []
    sd = f"{noise.borrowed_sd:g}{words.unit(judgement.metric)}"
    return [f"This rests on borrowed noise: single runs are taken to scatter by {sd} ({noise.borrowed_from})."]


def told_unstable(judgement: Judgement) -> list[str]:
    """Of arms that lose by their best run, in a sentence each; none where means decide."""
    said = []
    for verdict in judgement.verdicts:
        if verdict.by == "best run" and verdict.winner is not None and verdict.difference is not None:
            loser = verdict.a if verdict.winner == verdict.b else verdict.b
            seen = verdict if loser == verdict.b else verdict.turned()
            number = words.difference(seen.difference or 0.0, seen.interval, judgement.metric, judgement.min_effect)
            said.append(
                f"Runs of {loser} blow up, so its best run stands for it: each of its {seen.runs[1]} runs is worse "
                f"than {seen.a}, the best by {number}, if one that does not blow up has the noise of the other arms."
            )
    return said


if TYPE_CHECKING:
    from blueberry.study.spec import Study


# --- Races ---

Ended = Literal["settled", "maximum"]


@dataclass(frozen=True)
class Race:
    """How far a race has come. Rows are those of the table that was followed."""

    looks: tuple[int, ...]
    """Seeds at each look of the design."""
    taken: tuple[int, ...]
    """Those of them that the runs so far allow."""
    tables: tuple[np.ndarray, ...]
    """What was seen at each look taken: its seeds, and of an arm that had got no more only those it had then."""
    rulings: Rulings | None
    """Of the looks taken; None before the first."""
    open: tuple[int, ...]
    """Rows that still need seeds."""
    ended: Ended | None
    """"settled": every question is answered. "maximum": no seeds are left, and something is not. None: still on."""

    @property
    def contenders(self) -> tuple[int, ...]:
        """Rows not dropped: those that may be the best."""
        return self.rulings.contenders if self.rulings else self.open


def open_arms(study: "Study", values: Mapping[str, Mapping[int, float]]) -> tuple[str, ...]:
    """The arms of a study that still need seeds, in the order given: those that may be the best or, of named arms,
    those undecided against the unchanged one.

    `values` by arm and seed, less being better, infinite where a run diverged. Empty when every question is settled or
    the last look is taken. A look is taken when every open arm has ended on its seeds; before that, nothing changes.
    All looks so far are taken again at each call, on the seeds they had, so that the answer does not depend on how
    often this is asked, nor on further seeds of arms that were dropped.
    """
    names = list(values)
    return tuple(names[row] for row in _race_of(study, values).open)


def leading_arm(study: "Study", values: Mapping[str, Mapping[int, float]]) -> str | None:
    """The arm to confirm: of least mean among those not dropped. None if every one diverged."""
    race = _race_of(study, values)
    row = best_arm(table(values)) if race.rulings is None else race.rulings.best
    return None if row is None else list(values)[row]


def _race_of(study: "Study", values: Mapping[str, Mapping[int, float]]) -> Race:
    from blueberry.study.plan import looks_of  # what judges numbers comes without studies

    return follow(
        table(values),
        looks=looks_of(study.seeds.search, study.seeds.max),
        alpha=study.alpha,
        min_effect=study.min_effect,
        baseline=list(values).index(BASELINE) if BASELINE in values else None,
    )


def table(values: Mapping[str, Mapping[int, float]]) -> np.ndarray:
    """Arms by seeds, ascending; NaN where an arm has no value. Shape (K, n)."""
    seeds = sorted({seed for runs in values.values() for seed in runs})
    rows = [[runs.get(seed, math.nan) for seed in seeds] for runs in values.values()]
    return np.array(rows, dtype=float).reshape(len(values), len(seeds))


def follow(
    values_KN: np.ndarray, *, looks: tuple[int, ...], alpha: float, min_effect: float, baseline: int | None = None
) -> Race:
    """Take every look that the runs allow, each with the error alpha / looks, by `rule`.

    Without a baseline the question is which arm is best. An arm gets no more seeds once a look has called it worse, or
    it has diverged. The race is settled when one arm is left, or all that are left tie with the best of them (two
    one-sided tests).
    With a baseline the question is each arm against it. An arm gets no more seeds once it has won, lost or
    tied against the baseline, or has diverged.
    What it does in simulation: docs/truth.md.
    Source: Bonferroni. Spending functions (Lan and DeMets 1983) gain a little power and need the looks' correlation.
    """
    is_out_K = np.isinf(values_KN).any(axis=1) & np.isnan(values_KN[:, : looks[0]]).any(axis=1)
    if is_out_K.any():  # these diverged before the race began, and got no seeds of it
        rows = np.flatnonzero(~is_out_K).tolist()
        own = rows.index(baseline) if baseline in rows else None
        among = follow(values_KN[rows], looks=looks, alpha=alpha, min_effect=min_effect, baseline=own)
        return _of_all(among, values_KN, rows)
    open_ = list(range(len(values_KN)))
    tables: list[np.ndarray] = []
    rulings: Rulings | None = None
    for n in looks:
        seen_KN = values_KN[:, :n].copy()
        if tables:
            closed = [row for row in range(len(values_KN)) if row not in open_]
            seen_KN[closed] = np.nan
            seen_KN[closed, : tables[-1].shape[1]] = tables[-1][closed]
        if seen_KN.shape[1] < n or np.isnan(seen_KN[open_]).any():
            break
        tables.append(seen_KN)
        rulings = rule(tables, alpha=alpha / len(looks), min_effect=min_effect, baseline=baseline)
        open_ = _contesting(rulings) if baseline is None else _undecided(rulings, seen_KN, open_, baseline)
        if not open_:
            break
    ended: Ended | None = None
    if tables and not open_:
        ended = "settled"
    elif len(tables) == len(looks):
        ended, open_ = "maximum", []
    return Race(looks, looks[: len(tables)], tuple(tables), rulings, tuple(open_), ended)


def _of_all(race: Race, values_KN: np.ndarray, rows: list[int]) -> Race:
    """A race of some rows, told of the whole table."""
    tables = []
    for seen_KN in race.tables:
        whole_KN = values_KN[:, : seen_KN.shape[1]].copy()
        whole_KN[rows] = seen_KN
        tables.append(whole_KN)
    rulings = race.rulings and race.rulings.renumbered(rows)
    return replace(race, tables=tuple(tables), rulings=rulings, open=tuple(rows[row] for row in race.open))


def _contesting(rulings: Rulings) -> list[int]:
    """Rows that may be the best; none where one is left, or rows between which nothing is worth choosing.

    That all are ties is false as soon as one is not, and that one is called a tie with probability `alpha` at most:
    no adjustment for their number is needed (Berger 1982, intersection-union tests).
    """
    rivals = [row for row in rulings.contenders if row != rulings.best]
    is_settled = all(rulings.on_best[row].decision.verdict == "tie" for row in rivals)
    return [] if is_settled else list(rulings.contenders)


def _undecided(rulings: Rulings, seen_KN: np.ndarray, open_: list[int], baseline: int) -> list[int]:
    """Rows whose difference from the baseline is not decided, and the baseline as long as there is one."""
    if np.isinf(seen_KN[baseline]).any():
        return []  # no difference from it can become finite again
    left = [
        row
        for row in open_
        if row != baseline
        and not np.isinf(seen_KN[row]).any()
        and rulings.on_baseline[row].decision.verdict == "inconclusive"
    ]
    return sorted([baseline, *left]) if left else []
