"""Verdicts: every arm against the best one, and against the baseline, as one rule has compared them.

The rule (`against_best`, `against_baseline`) gives each comparison an interval, and all that is said of it follows: a
verdict is a winner's where the interval excludes 0, an arm's status is `worse` where that against the best does, and
the seeds that would settle it are counted at its error. So they cannot contradict one another.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from blueberry.judge.judgement import LEAST_BLOCKS, Verdict
from blueberry.stats.decide import Decision, decide, decide_diverged, seeds_for_tie, seeds_for_winner
from blueberry.stats.paired import Floor
from blueberry.stats.unresolved import (
    Compared,
    against_baseline,
    against_best,
    baseline_error,
    best_arm,
    first_error,
)

if TYPE_CHECKING:
    from blueberry.judge.measured import Measured


@dataclass(frozen=True)
class Ruling:
    """What was decided of one row against another, the reference, at the look that decided it or the last one."""

    reference: int
    compared: Compared
    decision: Decision
    """With the reference as a and the row as b."""

    @property
    def is_worse(self) -> bool:
        return self.decision.b_is_better is False

    @property
    def is_better(self) -> bool:
        return self.decision.b_is_better is True

    def turned(self, row: int) -> "Ruling":
        """The reference against the row."""
        ends, better = self.decision.interval, self.decision.b_is_better
        turned = replace(
            self.decision,
            interval=None if ends is None else (-ends[1], -ends[0]),
            b_is_better=None if better is None else not better,
        )
        return Ruling(row, self.compared.turned(), turned)


def error_of(num_arms: int, alpha: float, *, has_baseline: bool) -> float:
    """One-sided error of one claim among so many arms, before anything is known of the others: of the study's question.

    With a baseline that is each arm against it, else which arm is best.
    """
    return baseline_error(num_arms, alpha) if has_baseline else first_error(num_arms, alpha)


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


def rule(tables: Sequence[np.ndarray], *, alpha: float, min_effect: float, baseline: int | None = None) -> Rulings:
    """Rule on every row. `alpha` is the error of one look; tables of later looks have the seeds of earlier ones first.

    Without a baseline the question is which row is best: a row that a look calls worse is out, whatever comes later.
    With one there are two questions, each with this error: how each row differs from the baseline, decided at the
    first look that can; and which of the other rows is best. A row that has lost to the baseline is not the best, nor
    is the baseline where a row has won against it.
    Shapes: (K, n) each, NaN missing, infinity diverged.
    """
    last_KN = tables[-1]
    diverged = [row for row in range(len(last_KN)) if np.isinf(last_KN[row]).any()]
    finite = [row for row in range(len(last_KN)) if row not in diverged]
    if baseline is None:
        on_best, left, best = _by_elimination(tables, range(len(last_KN)), alpha, min_effect)
        left = [row for row in left if row in finite]
        if best is not None:
            led, _, _ = _by_elimination(tables, range(len(last_KN)), alpha, min_effect, best)
            on_best |= {row: led[row] for row in finite if row not in left and led[row].compared.is_worse}
            on_best |= _on_best(last_KN, [best, *diverged], best, alpha, min_effect)
            on_best.pop(best, None)  # against one that led earlier
        return Rulings(best, tuple(left), on_best, {})
    on_baseline = _on_baseline(tables, baseline, alpha, min_effect)
    left = [row for row in finite if row == baseline or not on_baseline[row].is_worse]
    if any(on_baseline[row].is_better for row in left if row != baseline):
        left = [row for row in left if row != baseline]
    best = _least(last_KN, left)
    if best is None or best == baseline:
        return Rulings(best, tuple(left), on_baseline if best is not None else {}, on_baseline)
    to_beat = on_baseline[best].turned(best)
    others = [row for row in range(len(last_KN)) if row != baseline]
    on_best, _, _ = _by_elimination(tables, others, alpha, min_effect, best, num_others=int(not to_beat.is_worse))
    on_best[baseline] = to_beat
    return Rulings(best, tuple(left), on_best, on_baseline)


def _least(values_KN: np.ndarray, rows: Sequence[int]) -> int | None:
    row = best_arm(values_KN[list(rows)])
    return None if row is None else rows[row]


def _on_baseline(tables: Sequence[np.ndarray], baseline: int, alpha: float, min_effect: float) -> dict[int, Ruling]:
    """At the first look that decides, or the last."""
    found: dict[int, Ruling] = {}
    for seen_KN in tables:
        for row, compared in against_baseline(seen_KN, baseline, alpha=alpha).items():
            if row not in found or found[row].decision.verdict == "inconclusive":
                found[row] = _rule(seen_KN, baseline, row, compared, alpha, min_effect)
    return found


def _by_elimination(
    tables: Sequence[np.ndarray],
    rows: Iterable[int],
    alpha: float,
    min_effect: float,
    best: int | None = None,
    num_others: int = 0,
) -> tuple[dict[int, Ruling], list[int], int | None]:
    """Rulings on these rows against the best of those left at each look, or this one at all; the rows left; the last
    look's best, None where all of them diverged.
    """
    found: dict[int, Ruling] = {}
    left, leader = list(rows), best
    for seen_KN in tables:
        leader = _least(seen_KN, left) if best is None else best
        if leader is None:
            break
        found |= _on_best(seen_KN, left, leader, alpha, min_effect, num_others)
        left = [row for row in left if row == leader or not found[row].compared.is_worse]
    return found, left, leader


def _on_best(
    seen_KN: np.ndarray, rows: Sequence[int], best: int, alpha: float, min_effect: float, num_others: int = 0
) -> dict[int, Ruling]:
    compared = against_best(seen_KN, alpha=alpha, among=rows, best=best, num_others=num_others)
    return {row: _rule(seen_KN, best, row, one, alpha, min_effect) for row, one in compared.items()}


def _rule(seen_KN: np.ndarray, reference: int, row: int, compared: Compared, alpha: float, min_effect: float) -> Ruling:
    pair = compared.pair
    if pair.difference is not None and math.isinf(pair.difference):
        common_2N = seen_KN[[reference, row]]
        common_2N = common_2N[:, ~np.isnan(common_2N).any(axis=0)]
        a, b = (int(num) for num in np.isinf(common_2N).sum(axis=1))
        return Ruling(reference, compared, decide_diverged(pair, num_diverged_a=a, num_diverged_b=b))
    decision = decide(
        pair, interval=compared.interval, alpha=2 * compared.error, tie_alpha=alpha, min_effect=min_effect
    )
    return Ruling(reference, compared, decision)


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
    if not measured.can_judge:
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
        verdict=decision.verdict,
        winner=winner,
        more_seeds=decision.more_seeds,
    )


def _withheld(measured: "Measured", ruling: Ruling) -> Decision:
    """Where there are too few blocks to tell arms apart: no interval either, as that alone would tell them apart.

    The seeds that are missing are not always enough: how many more would settle it is said at the noise measured so
    far; unknown where there is none, or no difference.
    """
    missing = max(LEAST_BLOCKS - measured.num_blocks, 1)
    more = ruling.decision.more_seeds
    if more is None and ruling.decision.verdict != "inconclusive":
        more = missing
    elif more is None and measured.noise.floor is not None:
        more = _more_seeds(measured, ruling.compared, measured.noise.floor)
    return Decision("inconclusive", None, None, None if more is None else max(more, missing))


def _more_seeds(measured: "Measured", compared: Compared, noise: Floor) -> int | None:
    """By the noise of all arms: the pair has none of its own."""
    pair, evidence = compared.pair, measured.evidence
    if pair.difference is None or math.isinf(pair.difference):
        return None
    per_seed = noise.df / max(measured.values_KN.shape[1] - 1, 1)
    won = seeds_for_winner(pair.difference, noise.sd, alpha=2 * compared.error, df_per_seed=per_seed)
    tied = seeds_for_tie(
        pair.difference,
        noise.sd,
        alpha=evidence.alpha / evidence.looks,
        min_effect=evidence.min_effect,
        df_per_seed=per_seed,
    )
    needed = min((n for n in (won, tied) if n is not None), default=None)
    return None if needed is None else max(needed - pair.n, 1)
