"""Races: arms get more seeds, look by look, as long as the rule of verdicts leaves something about them open."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from blueberry.judge.judgement import BASELINE
from blueberry.judge.verdicts import Rulings, rule
from blueberry.stats.differences import best_arm

if TYPE_CHECKING:
    from blueberry.study.spec import Study

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
