"""Verdicts: one rule says which arms could still be the best and which differ from a baseline, and every arm is told
from these two as it has compared them.

The rule (`against_best`, `against_baseline`) gives each comparison an interval, and all that is said of it follows: a
verdict is a winner's where the interval excludes 0, an arm's status is `worse` where that against the best does, and
the seeds that would settle it are counted at its error. So they cannot contradict one another.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from blueberry.judge.judgement import LEAST_BLOCKS, Verdict
from blueberry.stats.differences import (
    Decision,
    Df,
    Difference,
    baseline_error,
    best_arm,
    decide,
    decide_diverged,
    first_error,
    means_or_inf,
    more_seeds,
    t_quantile,
)
from blueberry.stats.noise import Borrowed, measure_noise

if TYPE_CHECKING:
    from blueberry.judge.evidence import Measured


@dataclass(frozen=True)
class Compared:
    """One row against a reference. Everything that is said of the two follows from `interval`."""

    pair: Difference
    """Row minus reference."""
    interval: tuple[float, float] | None
    """Of the difference: above 0 exactly where the row is worse, below 0 exactly where it is better."""
    error: float
    """One-sided: what the claim that is tested may be wrong with."""

    @property
    def is_worse(self) -> bool:
        return self.interval is not None and self.interval[0] > 0

    @property
    def is_better(self) -> bool:
        return self.interval is not None and self.interval[1] < 0

    def turned(self) -> "Compared":
        """The reference against the row."""
        pair, ends = self.pair, self.interval
        difference = None if pair.difference is None else -pair.difference
        turned = replace(pair, difference=difference, runs=pair.runs[::-1])
        return Compared(turned, None if ends is None else (-ends[1], -ends[0]), self.error)


def against_baseline(
    values_KN: np.ndarray, baseline: int, *, alpha: float, borrowed: Borrowed | None = None
) -> dict[int, Compared]:
    """Every other row against this one, all at one error, with symmetric intervals that hold together at 1 - alpha.

    Shapes: (K, n), NaN missing, infinity diverged.
    """
    noise, error = measure_noise(values_KN, borrowed), baseline_error(len(values_KN), alpha)
    compared = {}
    for row in range(len(values_KN)):
        if row != baseline:
            pair, behind = noise.difference(baseline, row), noise.least_run(baseline, row)
            ahead = noise.least_run(row, baseline)
            compared[row] = Compared(pair, pair.interval(1 - 2 * error), error)
            for one in (behind, ahead):
                found = None if one is None else Compared(one, one.interval(1 - 2 * error), error)
                is_told = compared[row].is_worse or compared[row].is_better
                if found is not None and found.is_worse and not is_told:
                    compared[row] = found if one is behind else found.turned()
    return compared


def against_best(
    values_KN: np.ndarray,
    *,
    alpha: float,
    among: Sequence[int] | None = None,
    best: int | None = None,
    num_others: int = 0,
    borrowed: Borrowed | None = None,
) -> dict[int, Compared]:
    """Every other row of `among` against the row of least mean, or `best`; none where all diverged.

    A row is worse when its one-sided p is at most alpha / (g (g - 1)), g being the rows that are not yet called worse,
    the best among them: the row of least p first, until one fails, and all that are left are tested as that one was.
    So far as rows are told apart, the rest pay for fewer comparisons; the last of them pays for one, two-sided.
    `error` is what a row was tested at, and the lower end of its interval is there: above 0 exactly where it is worse.
    The upper end, which decides nothing, is at the error of the first test, and not below 0: that a row be better than
    the best is not asked. Noise as in `NoiseEstimate.difference`. A row whose runs blow up is worse also where its
    least run is (`NoiseEstimate.least_run`), which then stands for it. Rows that diverged are compared with an
    infinite difference, and count for nothing. `num_others` may be the best too, and are compared elsewhere.

    Any false claim has probability alpha at most where arms are equally good: g of them have g (g - 1) ordered pairs,
    any of which may have the best on one side. Where the best stands out, the lower ends pay
    sum(alpha / (g (g - 1))) = alpha (1 - 1 / K) and the upper ones alpha / K: all intervals hold at once.
    alpha / (K - 1) for every row (Hsu 1984) keeps the best among the rest as surely and is sharper; but it only says
    "not the best": "worse than that arm" is then false in 16% of studies of 13 equal arms, see docs/truth.md. For where
    an optimum lies that is enough: `candidates`.
    Shapes: (K, n), NaN missing, infinity diverged.
    Source: step-down tests (Holm 1979), over the ordered pairs of what is left (Shaffer 1986).
    """
    rows = list(range(len(values_KN)) if among is None else among)
    if best is None:
        leader = best_arm(values_KN[rows], is_borrowed=borrowed is not None)
        if leader is None:
            return {}
        best = rows[leader]
    noise, means_K = measure_noise(values_KN, borrowed), means_or_inf(values_KN)
    pairs = {row: [noise.difference(best, row), noise.least_run(best, row)] for row in rows if row != best}
    left = 1 + num_others + sum(bool(np.isfinite(means_K[row])) for row in pairs)
    first = error = first_error(left, alpha)
    compared: dict[int, Compared] = {}
    for row, (pair, best_run) in sorted(pairs.items(), key=lambda item: min(map(_one_sided_p, item[1]))):
        one = Compared(pair, _ends(pair, low=error, high=first), error)
        if best_run is not None and not one.is_worse:
            by_best_run = Compared(best_run, _ends(best_run, low=error, high=first), error)
            one = by_best_run if by_best_run.is_worse else one
        compared[row] = one
        if one.is_worse:
            left -= 1
            error = first_error(left, alpha)
    return {row: compared[row] for row in pairs}


def _one_sided_p(pair: Difference | None) -> float:
    """Of the row being worse; 1 where nothing is known."""
    p = None if pair is None else pair.p_value()
    if pair is None or p is None or pair.difference is None:
        return 1.0
    return p / 2 if pair.difference > 0 else 1 - p / 2


def _ends(pair: Difference, *, low: float, high: float) -> tuple[float, float] | None:
    if pair.difference is None or pair.standard_error is None:
        return None
    below, above = (t_quantile(pair.df, error) * pair.standard_error for error in (low, high))
    return pair.difference - below, max(pair.difference + above, 0.0)


def candidates(
    values_KN: np.ndarray, rows: Sequence[int], *, alpha: float, borrowed: Borrowed | None = None
) -> list[int]:
    """Those of the rows that may be the best that also one-sided alpha / (K - 1) does not tell from the best of them.

    For where an optimum may lie, which makes no claim on any two rows: it is enough that the truly best one is kept.
    Shapes: (K, n); `rows` are those not worse than the best by `against_best`.
    Source: multiple comparisons with the best (Hsu 1984), by t tests and Bonferroni.
    """
    error = alpha / max(len(values_KN) - 1, 1)
    compared = against_best(values_KN, alpha=alpha, among=rows, borrowed=borrowed)
    return [row for row in rows if row not in compared or _one_sided_p(compared[row].pair) > error]


# --- Rulings ---


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
    row = best_arm(values_KN[list(rows)], is_borrowed=asked.borrowed is not None)
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
