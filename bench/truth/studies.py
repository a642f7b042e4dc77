"""How a cell is measured: draw studies, have the real judge weigh them, hold what it says against the truth.

Every function takes a cell, a generator and a number of replicates, and returns one array a measure, of one number
a replicate; NaN where the replicate has nothing to say about it.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from bench import loops
from bench.truth.cells import ALPHA, Cell
from bench.truth.customs import CUSTOMS, best_index, e_value, parabola_covers
from bench.truth.doctoring import DEFECTS, clean_rows, findings
from bench.truth.draws import Truth, arms_truth, draw_runs, sweep_truth
from blueberry.judge.answers import Effect
from blueberry.judge.effects import find_effects
from blueberry.judge.evidence import BASELINE, ArmRuns, Evidence, Measured, measure
from blueberry.judge.judgement import Verdict
from blueberry.judge.verdicts import against_best, candidates, compare
from blueberry.stats.differences import means_or_inf
from blueberry.stats.noise import Borrowed
from blueberry.stats.optimum import Located, OneSided, locate_optimum, read_valley
from blueberry.study.arms import combine
from blueberry.study.plan import LOOKS

RATE = "learning_rate"
MOST_MORE = 200
"""An advice of more seeds than this is counted and not followed."""
ROUNDING = 1e-9

Measures = dict[str, np.ndarray]


def truth_of(cell: Cell, rng: np.random.Generator, replicates: int) -> Truth:
    if cell.surface is not None:
        return sweep_truth(
            rng,
            replicates,
            surface=cell.surface,
            num_arms=cell.num_arms,
            curvature=cell.curvature,
            right_over_left=cell.right_over_left,
        )
    if cell.spread_nats is None:
        return arms_truth(replicates, np.array(cell.excess_nats))
    truth = arms_truth(replicates, np.zeros(2))
    difference_R = cell.spread_nats * rng.standard_normal(replicates)
    return Truth(truth.x_K, truth.means_RK + np.stack([0 * difference_R, difference_R], axis=1), truth.optimum_R2)


def evidence_of(cell: Cell, truth: Truth, values_KN: np.ndarray, *, looks: tuple[int, ...] = ()) -> Evidence:
    """As a study of ours or a table of someone else's would hand it over; with `looks`, as a race does."""
    rates = np.exp(truth.x_K).tolist()
    names = [f"{arm:02d}" for arm in range(len(rates))]
    if cell.has_baseline:
        names[0] = BASELINE
    return Evidence(
        question="which?",
        metric="val_loss",
        min_effect=cell.min_effect_nats,
        alpha=ALPHA,
        vary=(RATE,) if cell.surface is not None else (),
        arms=tuple(
            ArmRuns(name, {RATE: rate} if cell.surface is not None else {}, _by_seed(cell, k, values))
            for k, (name, rate, values) in enumerate(zip(names, rates, values_KN.tolist(), strict=True))
        ),
        scale="log",
        looks=max(len(looks), 1),
        look_seeds=looks,
        borrowed=Borrowed(cell.noise.sd_nats) if cell.is_borrowed else None,
    )


def _by_seed(cell: Cell, arm: int, values: Sequence[float]) -> dict[int, float]:
    """An arm's values on the seeds that it has."""
    count = len(values) if cell.least_n is None else cell.least_n + arm % (cell.n - cell.least_n + 1)
    first = cell.n * arm if cell.seeds_apart else 0
    return {first + seed: value for seed, value in enumerate(values[:count])}


def fixed(cell: Cell, rng: np.random.Generator, replicates: int) -> Measures:
    """A study of fixed size, judged once."""
    truth = truth_of(cell, rng, replicates)
    values_RKN = draw_runs(rng, truth.means_RK, cell.n, cell.noise)
    found = []
    for r in range(replicates):
        measured = measure(evidence_of(cell, truth, values_RKN[r]))
        verdicts = compare(measured)
        one = judge_verdicts(measured, verdicts, truth.means_RK[r])
        one |= _judge_best(measured, truth.means_RK[r])
        if cell.num_arms == 2:
            one["contrast covers"] = one.get("intervals cover", math.nan)
        found.append(one)
    regret_R = _regret(truth.means_RK, best_index(values_RKN[:, :, :1]))
    return columns(found) | _customs(cell, truth.means_RK, values_RKN) | {"regret of one seed": regret_R}


def factorial(cell: Cell, rng: np.random.Generator, replicates: int) -> Measures:
    """Main effects of single runs: an effect that is told from 0 and has the other sign, or is 0, is a false winner."""
    names = tuple(f"change {number}" for number in range(len(cell.effects_nats)))
    arms = combine(names, "full" if 2 ** len(names) == cell.num_arms else "fraction").arms
    held_KF = np.array([[name in arm for name in names] for arm in arms], dtype=float)
    effects_F = np.array(cell.effects_nats)
    effects_F[:2] -= cell.interaction_nats  # so that averaged over the other, each does what it is said to
    both_K = held_KF[:, 0] * held_KF[:, 1]
    means_RK = arms_truth(replicates, held_KF @ effects_F + 2 * cell.interaction_nats * both_K).means_RK
    values_RKN = draw_runs(rng, means_RK, cell.n, cell.noise)
    found = []
    for values_KN in values_RKN:
        runs = [ArmRuns("+".join(arm) or BASELINE, {}, {0: value}, factors=arm)
                for arm, (value,) in zip(arms, values_KN.tolist(), strict=True)]  # fmt: skip
        more = {"min_effect": cell.min_effect_nats, "alpha": ALPHA, "vary": ()}
        measured = measure(Evidence(question="which?", metric="val_loss", arms=tuple(runs), **more))
        found.append(_judge_effects(find_effects(measured), np.array(cell.effects_nats), cell.min_effect_nats))
    return columns(found)


def _judge_effects(effects: Sequence[Effect], true_F: np.ndarray, min_effect: float) -> dict[str, float]:
    told = [0 if not one.is_significant else 1 if (one.difference or 0.0) > 0 else -1 for one in effects]
    ends_F2 = np.array([one.interval for one in effects])
    apart_F = np.abs(true_F) >= min_effect - ROUNDING
    ties_F = np.array([one.is_tie for one in effects])
    acting_F = true_F != 0
    return {
        "false winner": bool(((told != np.sign(true_F)) & (np.array(told) != 0)).any()),
        "false tie": bool((ties_F & apart_F).any()) if apart_F.any() else math.nan,
        "intervals cover": bool(((ends_F2[:, 0] <= true_F) & (true_F <= ends_F2[:, 1])).all()),
        "effects found": float((np.array(told) != 0)[acting_F].mean()) if acting_F.any() else math.nan,
    }


def judge_verdicts(measured: Measured, verdicts: Sequence[Verdict], means_K: np.ndarray) -> dict[str, float]:
    index = {arm.name: k for k, arm in enumerate(measured.evidence.arms)}
    min_effect = measured.evidence.min_effect
    wrong = opposite = won = false_ties = chances = inconclusive = 0
    questions: tuple[list[bool], list[bool]] = ([], [])  # which is best, and how each arm differs from a baseline
    for verdict in verdicts:
        a, b = means_K[index[verdict.a]], means_K[index[verdict.b]]
        true = math.inf if math.isinf(b) and not math.isinf(a) else b - a
        apart = abs(true) >= min_effect - ROUNDING
        chances += apart
        if verdict.verdict == "winner":
            claimed = 1 if verdict.winner == verdict.a else -1  # b - a is positive where a wins
            won += 1
            wrong += claimed * true <= 0
            opposite += claimed * true < 0
        elif verdict.verdict == "tie":
            false_ties += apart
        else:
            inconclusive += 1
        if verdict.interval is not None and math.isfinite(true):
            holds = verdict.interval[0] - ROUNDING <= true <= verdict.interval[1] + ROUNDING
            questions[BASELINE in (verdict.a, verdict.b)].append(holds)
    of_best, of_baseline = (all(holds) if holds else math.nan for holds in questions)
    return {
        "false winner": wrong > 0,
        "sign error": opposite > 0,
        "false tie": false_ties > 0 if chances else math.nan,
        "false tie, each": false_ties / chances if chances else math.nan,
        "intervals cover": of_baseline if BASELINE in index else of_best,
        "decided": 1 - inconclusive / len(verdicts) if verdicts else math.nan,
        "settled": inconclusive == 0,
        "winners": won / len(verdicts) if verdicts else math.nan,
    } | ({"intervals of the best cover": of_best} if BASELINE in index else {})


def _judge_best(measured: Measured, means_K: np.ndarray) -> dict[str, float]:
    if measured.best is None:
        return {}
    return {
        "best dropped": int(np.argmin(means_K)) not in measured.unresolved,
        "regret": float(means_K[measured.best] - means_K.min()),
        "unresolved": len(measured.unresolved),
    }


def optimum(cell: Cell, rng: np.random.Generator, replicates: int) -> Measures:
    """Only the unresolved set and where the optimum lies, by the functions that `measure` calls."""
    truth = truth_of(cell, rng, replicates)
    values_RKN = draw_runs(rng, truth.means_RK, cell.n, cell.noise)
    found = []
    for values_KN, means_K, true_2 in zip(values_RKN, truth.means_RK, truth.optimum_R2, strict=True):
        worse = {row for row, one in against_best(values_KN, alpha=ALPHA).items() if one.is_worse}
        kept = [row for row in np.flatnonzero(np.isfinite(means_or_inf(values_KN))).tolist() if row not in worse]
        near = candidates(values_KN, kept, alpha=ALPHA)
        said = locate_optimum(truth.x_K, read_valley(truth.x_K, values_KN, alpha=ALPHA), near)
        best_kept = int(np.argmin(means_K)) in near if near else math.nan
        found.append({"best dropped": 1 - best_kept, "unresolved": len(kept)} | judge_optimum(said, true_2))
    covered_R = parabola_covers(truth.x_K, values_RKN, truth.optimum_R2, ALPHA)
    return columns(found) | {"optimum covered, parabola": covered_R}


def judge_optimum(said: Located | OneSided | None, true_2: np.ndarray) -> dict[str, float]:
    """Of a true optimum that is an interval (a plateau), any point of it will do."""
    if said is None:
        return {"located": False, "bounded": False}
    if isinstance(said, Located):
        low, high = said.interval
        covered = low <= true_2[1] and high >= true_2[0]
        return {
            "located": True,
            "bounded": False,
            "optimum covered": covered,
            "optimum statement true": covered,
            "width": high - low,
        }
    true = true_2[0] <= said.bound if said.side == "below" else true_2[1] >= said.bound
    return {"located": False, "bounded": True, "optimum statement true": true}


def _regret(means_RK: np.ndarray, chosen_R: np.ndarray) -> np.ndarray:
    """Finite where the choice has a finite expected loss; a choice that always diverges is left out."""
    regret_R = means_RK[np.arange(len(means_RK)), chosen_R] - means_RK.min(axis=1)
    return np.where(np.isfinite(regret_R), regret_R, np.nan)


def _customs(cell: Cell, means_RK: np.ndarray, values_RKN: np.ndarray) -> Measures:
    """False winners and false ties of what people do instead."""
    best_R = best_index(values_RKN)
    with np.errstate(invalid="ignore"):
        true_RK = means_RK - means_RK[np.arange(len(means_RK)), best_R][:, None]
    measures = {}
    for name, custom in CUSTOMS.items():
        said_RK = custom(values_RKN, ALPHA)
        wrong_RK = (said_RK == 1) & (true_RK <= 0)
        apart_RK = np.abs(true_RK) >= cell.min_effect_nats - ROUNDING
        measures[f"false winner, {name}"] = wrong_RK.any(axis=1).astype(float)
        chances_R = apart_RK.any(axis=1)
        false_R = ((said_RK == 0) & apart_RK).any(axis=1).astype(float)
        measures[f"false tie, {name}"] = np.where(chances_R, false_R, np.nan)
    return measures


def race(cell: Cell, rng: np.random.Generator, replicates: int) -> Measures:
    """Seeds go, look by look, to the arms about which something is unsettled; what a look decides stands.

    The judge is given the runs of all seeds: of an arm that has left the race it does not read the later ones.
    """
    truth = truth_of(cell, rng, replicates)
    values_RKN = draw_runs(rng, truth.means_RK, LOOKS[-1], cell.noise)
    found = []
    for r in range(replicates):
        measured = measure(evidence_of(cell, truth, values_RKN[r], looks=LOOKS))
        assert measured.race is not None
        one = judge_verdicts(measured, compare(measured), truth.means_RK[r])
        one |= _judge_best(measured, truth.means_RK[r])
        one["settled"] = measured.race.ended == "settled"
        one["runs used"] = float((~np.isnan(measured.race.tables[-1])).sum()) / cell.num_arms
        if cell.num_arms == 2:
            one |= _peek(cell, truth, values_RKN[r], truth.means_RK[r])
        found.append(one)
    fixed_regrets = {
        f"regret of {n} seeds": _regret(truth.means_RK, best_index(values_RKN[:, :, :n])) for n in (LOOKS[0], LOOKS[-1])
    }
    return columns(found) | _peek_with_t(truth, values_RKN) | fixed_regrets


def _peek(cell: Cell, truth: Truth, values_KN: np.ndarray, means_K: np.ndarray) -> dict[str, float]:
    """Two arms, judged after every seed until there is a winner or a tie: without paying for it, and by e-values."""
    wrong, true = {"unadjusted": False, "e-process": False}, means_K[1] - means_K[0]
    tied, settled = False, False
    for n in range(LOOKS[0], LOOKS[-1] + 1):
        if not settled:
            measured = measure(evidence_of(cell, truth, values_KN[:, :n]))
            one = judge_verdicts(measured, compare(measured), means_K)
            settled = bool(one["settled"])
            wrong["unadjusted"] |= bool(one["false winner"])
            tied |= one["false tie"] == 1
        difference_N = values_KN[1, :n] - values_KN[0, :n]
        if e_value(difference_N) >= 1 / ALPHA:
            wrong["e-process"] |= float(difference_N.mean()) * true <= 0
    apart = abs(true) >= cell.min_effect_nats - ROUNDING
    return {f"false winner, {name} at every seed": value for name, value in wrong.items()} | {
        "false tie, unadjusted at every seed": tied if apart else math.nan
    }


def _peek_with_t(truth: Truth, values_RKN: np.ndarray) -> Measures:
    """The habit of repeating the t-test after every seed until it is significant once."""
    rows, peeked_R = np.arange(len(values_RKN)), np.zeros(len(values_RKN), dtype=bool)
    for n in range(LOOKS[0], LOOKS[-1] + 1):
        best_R = best_index(values_RKN[:, :, :n])
        wrong_RK = CUSTOMS["t-test"](values_RKN[:, :, :n], ALPHA) == 1
        wrong_RK &= truth.means_RK <= truth.means_RK[rows, best_R][:, None]
        peeked_R |= wrong_RK.any(axis=1)
    return {"false winner, t-test at every seed": peeked_R.astype(float)}


def more(cell: Cell, rng: np.random.Generator, replicates: int) -> Measures:
    """Follow the advice: judge again with as many fresh seeds as were asked for."""
    truth = truth_of(cell, rng, replicates)
    first_RKN = draw_runs(rng, truth.means_RK, cell.n, cell.noise)
    found = []
    for r in range(replicates):
        (verdict,) = compare(measure(evidence_of(cell, truth, first_RKN[r])))
        asked, advised = verdict.verdict == "inconclusive", verdict.more_seeds
        one: dict[str, float] = {"inconclusive": asked}
        if asked:
            followed = advised is not None and advised <= MOST_MORE
            one["advice followed"] = followed
            if followed:
                assert advised is not None
                fresh_KN = draw_runs(rng, truth.means_RK[r : r + 1], advised, cell.noise)[0]
                both_KN = np.concatenate([first_RKN[r], fresh_KN], axis=1)
                (again,) = compare(measure(evidence_of(cell, truth, both_KN)))
                settled = again.verdict != "inconclusive"
                one |= {"settled after N more": settled, "N": advised}
                one[f"settled after N more, {_size(advised)}"] = settled
        found.append(one)
    return columns(found)


def _size(advised: int) -> str:
    return "N <= 5" if advised <= 5 else "N 6 to 20" if advised <= 20 else f"N 21 to {MOST_MORE}"


def clean(cell: Cell, rng: np.random.Generator, replicates: int) -> Measures:
    """The doctor on tables without a defect."""
    said = [findings(clean_rows(rng)) for _ in range(replicates)]
    blocked = [any(severity == "block" for _, severity in one) for one in said]
    return {
        "false alarm": np.array([bool(one) for one in said], dtype=float),
        "blocked": np.array(blocked, dtype=float),
    }


def defect(cell: Cell, rng: np.random.Generator, replicates: int) -> Measures:
    """The doctor on tables with the defect that the cell is named after."""
    plant, audit = DEFECTS[cell.name.partition("/")[2]]
    said = [findings(plant(rng)) for _ in range(replicates)]
    found = [(audit, "block") in one for one in said]
    return {"defect found": np.array(found, dtype=float)}


def columns(found: Sequence[dict[str, float]]) -> Measures:
    names = dict.fromkeys(name for one in found for name in one)
    return {name: np.array([one.get(name, math.nan) for one in found], dtype=float) for name in names}


def loop(cell: Cell, rng: np.random.Generator, replicates: int) -> Measures:
    """Whole loops of changes, kept or discarded."""
    assert cell.loop is not None
    return loops.measured(*cell.loop, rng, replicates)


STUDIES: dict[str, Callable[[Cell, np.random.Generator, int], Measures]] = {
    "fixed": fixed,
    "factorial": factorial,
    "optimum": optimum,
    "race": race,
    "more": more,
    "loop": loop,
    "clean": clean,
    "defect": defect,
}
