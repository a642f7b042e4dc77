import json
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from blueberry.judge.evidence import ArmRuns, Evidence
from blueberry.judge.judgement import Bound, Judgement, Optimum
from blueberry.judge.judging import weigh
from blueberry.stats.noise import measure_noise

RATE = "optimizer.muon.learning_rate"
RATES = [float(f"{rate:.4g}") for rate in np.geomspace(0.005, 0.32, 13)]


def weigh_arms(values, *, confirm=None, settings=None, vary=(), **more) -> Judgement:
    """Judge {arm: values by seed 0, 1, ...}; `confirm` and `settings` by arm."""
    arms = tuple(
        ArmRuns(
            name,
            (settings or {}).get(name, {}),
            dict(enumerate(runs)),
            confirm=dict(enumerate((confirm or {}).get(name, ()), start=100)),
        )
        for name, runs in values.items()
    )
    given = {"question": "which?", "metric": "val_loss", "min_effect": 0.01, "alpha": 0.05, **more}
    return weigh(Evidence(vary=vary, arms=arms, **given))


def sweep(rng, *, optimum=0.04, curvature=0.05, sd=0.01, n=3, rates=RATES, unstable_from=math.inf, **more):
    """A simulated sweep: a valley in log rate, divergence from a rate on."""
    block = rng.normal(size=n)
    values, settings = {}, {}
    for rate in rates:
        mean = 3.0 + curvature * math.log(rate / optimum) ** 2
        runs = mean + sd * (0.7 * block + 0.7 * rng.normal(size=n))
        values[f"learning_rate={rate:g}"] = [math.inf] * n if rate >= unstable_from else [float(v) for v in runs]
        settings[f"learning_rate={rate:g}"] = {RATE: rate}
    return weigh_arms(values, settings=settings, vary=(RATE,), **more)


def null(rng, num_arms, n):
    return {f"arm{k}": [float(v) for v in 3 + 0.02 * rng.normal(size=n)] for k in range(num_arms)}


def test_two_arms_worked_by_hand():
    judged = weigh_arms({"a": [1.0, 1.0, 1.0], "b": [2.0, 3.0, 4.0]})
    half = 4.302653 / 3**0.5
    (verdict,) = judged.verdicts
    assert (verdict.a, verdict.b, verdict.difference, verdict.n) == ("a", "b", 2.0, 3)
    assert verdict.interval == pytest.approx((2 - half, 2 + half))
    assert verdict.verdict == "inconclusive"
    assert verdict.more_seeds == 2  # noncentral t: power .64 at n = 4, .89 at n = 5
    assert [arm.mean for arm in judged.arms] == [1.0, 3.0]
    assert judged.unresolved == ("a", "b")  # of two arms only a verdict drops one: 2 < 4.30 / sqrt(3)
    assert judged.noise.paired_sd == pytest.approx(1.0)


def test_holm_adjusts_the_intervals_over_all_pairs():
    rng = np.random.default_rng(0)
    values = null(rng, 3, 6)
    judged = weigh_arms(values)
    matrix = np.array(list(values.values()))
    names, noise = list(values), measure_noise(matrix)
    for verdict in judged.verdicts:
        d = np.array(values[verdict.b]) - np.array(values[verdict.a])
        pair = noise.difference(names.index(verdict.a), names.index(verdict.b))
        half = stats.t.isf(0.05 / 3 / 2, pair.df) * pair.sd / 6**0.5  # none is rejected: all at alpha / 3
        assert verdict.interval == pytest.approx((d.mean() - half, d.mean() + half))


@pytest.mark.parametrize(("num_arms", "n"), [(2, 3), (8, 5)])
def test_a_planted_null_has_false_winners_at_most_at_alpha(num_arms, n):
    rng = np.random.default_rng(num_arms * n)
    false = sum(
        any(verdict.verdict == "winner" for verdict in weigh_arms(null(rng, num_arms, n)).verdicts) for _ in range(60)
    )
    assert stats.binomtest(false, 60, 0.05, alternative="greater").pvalue > 0.01


def test_a_planted_best_rate_is_unresolved_and_its_optimum_covered():
    rng = np.random.default_rng(1)
    kept = covered = located = 0
    repeats = 40
    for _ in range(repeats):
        optimum = 0.04 * math.exp(rng.uniform(-0.3, 0.3))
        judged = sweep(rng, optimum=optimum, sd=0.02)
        true_best = min(RATES, key=lambda rate: abs(math.log(rate / optimum)))
        kept += f"learning_rate={true_best:g}" in judged.unresolved
        if isinstance(judged.optimum, Optimum):
            located += 1
            covered += judged.optimum.interval[0] <= optimum <= judged.optimum.interval[1]
    assert stats.binomtest(kept, repeats, 0.95, alternative="less").pvalue > 0.01
    assert located > 32
    assert stats.binomtest(covered, located, 0.95, alternative="less").pvalue > 0.01


def test_a_clear_winner_wins():
    rng = np.random.default_rng(2)
    values = null(rng, 4, 5)
    values["better"] = [v - 0.5 for v in values["arm0"]]
    judged = weigh_arms(values)
    assert judged.best is not None
    assert judged.best.arm == "better"
    assert {(v.a, v.winner, v.verdict) for v in judged.verdicts} == {("better", "better", "winner")}
    assert judged.recommendation.withheld is None


def test_an_optimum_at_the_edge_is_withheld_and_the_remedy_says_where_to_go():
    judged = sweep(np.random.default_rng(3), optimum=2.0)
    (edge,) = [audit for audit in judged.audits if audit.audit == "edge"]
    assert edge.severity == "block"
    assert f"extend {RATE} up to 0.64" in edge.remedy
    assert judged.recommendation.settings is None
    assert "edge" in (judged.recommendation.withheld or "")
    assert isinstance(judged.optimum, Bound)
    assert judged.optimum.side == "above"
    assert judged.optimum.bound in RATES
    low = sweep(np.random.default_rng(3), optimum=0.001)
    assert any("down to" in audit.remedy for audit in low.audits)


def test_a_range_that_ends_in_divergence_is_no_edge():
    judged = sweep(np.random.default_rng(4), optimum=0.04, unstable_from=0.1)
    assert judged.recommendation.withheld is None
    assert judged.ranges.unstable_from == pytest.approx(0.1131, rel=0.01)
    assert judged.arms[-1].status == "diverged"


def test_a_diverged_arm_ranks_last_and_is_counted():
    judged = weigh_arms({"a": [1.0, 1.1, 1.2], "b": [0.1, 0.2, math.inf], "c": [math.inf] * 3})
    assert judged.best is not None
    assert judged.best.arm == "a"
    b, c = judged.arms[1:]
    assert (b.status, b.n, b.mean, b.num_diverged, b.interval) == ("diverged", 3, math.inf, 1, None)
    verdicts = {verdict.b: verdict for verdict in judged.verdicts}
    assert (verdicts["b"].verdict, verdicts["b"].difference) == ("inconclusive", math.inf)
    assert (verdicts["c"].verdict, verdicts["c"].winner) == ("winner", "a")
    assert c.sd is None


def test_a_tie_is_called_only_with_equivalence():
    same = {"a": [3.0, 3.1, 3.2, 3.0, 3.1], "b": [3.001, 3.1, 3.201, 2.999, 3.101]}
    assert weigh_arms(same, min_effect=0.01).verdicts[0].verdict == "tie"
    assert weigh_arms(same, min_effect=0.0001).verdicts[0].verdict == "inconclusive"


def test_confirmation_reports_the_fresh_seeds_and_both_numbers():
    values = {"a": [1.0, 1.1, 1.2], "b": [2.0, 2.2, 2.1]}
    judged = weigh_arms(values, confirm={"a": [1.3, 1.5, 1.4, 1.4]})
    assert judged.best is not None
    assert (judged.best.confirmed, judged.best.n) == (True, 4)
    assert judged.best.mean == pytest.approx(1.4)
    assert judged.best.search_mean == pytest.approx(1.1)
    assert "4 fresh seeds" in judged.known
    assert not any(audit.audit == "curse" for audit in judged.audits)
    unconfirmed = weigh_arms(values)
    assert any(a.audit == "curse" and a.severity == "warn" and "unconfirmed" in a.message for a in unconfirmed.audits)
    assert "3 seeds that chose it" in unconfirmed.known


def test_the_test_set_is_reported_over_the_same_runs_or_not_at_all():
    def best(test):
        arms = (
            ArmRuns("a", {}, {0: 1.0, 1: 1.1, 2: 1.2}, confirm={9: 1.3, 10: 1.4}, test=test),
            ArmRuns("b", {}, {0: 2.0, 1: 2.1, 2: 2.2}),
        )
        return weigh(Evidence("q", "val_loss", 0.01, 0.05, (), arms)).best

    complete, partial = best({0: 9.0, 9: 1.5, 10: 1.7}), best({0: 9.0, 9: 1.5})
    assert complete is not None
    assert complete.test_mean == pytest.approx(1.6)
    assert partial is not None
    assert partial.test_mean is None


def test_named_arms_are_compared_with_the_baseline():
    base = [3.0, 3.1, 3.05, 3.02, 3.08]
    values = {
        "baseline": base,
        "better": [v - 0.1 - 0.001 * i for i, v in enumerate(base)],
        "same": [v + 0.002 * (-1) ** i for i, v in enumerate(base)],
    }
    judged = weigh_arms(values, settings={"better": {"model.dropout": 0.1}, "same": {"train.clip_norm": 2.0}})
    assert [(v.a, v.b) for v in judged.verdicts] == [
        ("better", "baseline"),
        ("better", "same"),
        ("baseline", "better"),
        ("baseline", "same"),
    ]
    against = judged.verdicts[2]
    assert (against.verdict, against.winner) == ("winner", "better")
    assert against.difference == pytest.approx(-0.102)
    assert judged.recommendation.settings == {"model.dropout": 0.1}
    assert "better is better than the baseline: -0.102" in judged.known
    assert "5 paired seeds" in judged.known


def test_the_baseline_is_kept_when_nothing_was_shown_to_beat_it():
    values = null(np.random.default_rng(8), 4, 5)
    values["baseline"] = values.pop("arm0")
    judged = weigh_arms(values)
    assert judged.recommendation.text == "Keep the baseline: no change was shown to beat it."
    assert judged.recommendation.settings == {}


def test_the_first_sentence_of_a_sweep():
    judged = sweep(np.random.default_rng(5), sd=0.02, confirm=None)
    assert judged.best is not None
    assert judged.known.startswith("Rates ")
    assert "are not separated by 3 seeds" in judged.known
    assert f"{judged.best.settings[RATE]:.4g} has the least mean val_loss" in judged.known
    assert "more seeds would settle" in judged.unknown
    low, high = judged.ranges.optimal or (0, 0)
    assert f"{low:.4g} to {high:.4g}" in judged.known


def test_one_seed_tells_no_arm_from_another():
    judged = sweep(np.random.default_rng(6), n=1)
    assert "nothing separates it from the other 12 arms" in judged.known
    assert judged.noise.sd is None
    assert "If the curve is one smooth valley" in judged.known
    assert judged.ranges.optimal is None
    assert all(verdict.verdict == "inconclusive" and verdict.interval is None for verdict in judged.verdicts)
    assert "seeds" in (judged.recommendation.withheld or "")


def test_nothing_finite_gives_no_best():
    judged = weigh_arms({"a": [math.inf] * 3, "b": []})
    assert judged.best is None
    assert judged.recommendation.withheld is not None
    assert [arm.mean for arm in judged.arms] == [math.inf, None]
    assert judged.known == "No arm has a finite val_loss: 3 runs diverged and b has no run that ended."


def test_arms_of_an_axis_come_back_in_order():
    settings = {"x": {RATE: 0.3}, "y": {RATE: 0.03}, "z": {RATE: 0.1}}
    judged = weigh_arms({"x": [3.0], "y": [1.0], "z": [2.0]}, settings=settings, vary=(RATE,))
    assert [arm.arm for arm in judged.arms] == ["y", "z", "x"]


def test_ranges_by_hand():
    values = {"a": [1.2, 1.21, 1.22], "b": [1.001, 1.01, 1.019], "c": [1.0, 1.01, 1.02], "d": [9.0, 1.2, math.inf]}
    rates = dict(zip(values, (0.01, 0.02, 0.04, 0.08), strict=True))
    arms = tuple(
        ArmRuns(
            name,
            {RATE: rates[name]},
            dict(enumerate(runs)),
            evaluations=dict.fromkeys(range(3), ((10, 2.0), (20 if name == "c" else 30, 0.9))),
        )
        for name, runs in values.items()
    )
    ranges = weigh(Evidence("q", "val_loss", 0.01, 0.05, (RATE,), arms)).ranges
    assert ranges.optimal == (0.02, 0.04)
    assert ranges.conservative == 0.02
    assert ranges.fast == 0.04
    assert ranges.unstable_from == 0.08


@pytest.mark.parametrize(
    "values",
    [
        {"a": [1.0, math.inf], "b": [math.inf, 1.0]},
        {"a": [1.0], "b": []},
        {"a": [1.0, 1.0], "b": [1.0, 1.0]},
        {"a": [1.0, 2.0, 3.0], "b": [math.inf] * 3, "baseline": [math.inf] * 3},
        {"a": []},
    ],
)
def test_the_json_has_no_nan_and_no_bare_infinity(values):
    text = json.dumps(weigh_arms(values).to_dict(), allow_nan=False)
    assert "NaN" not in text
    if math.inf in values.get("b", []):
        assert '"inf"' in text


def test_two_seeds_rank_nothing_however_far_apart_the_arms_are():
    judgement = weigh_arms({"a": [3.0, 3.01], "b": [4.0, 4.01], "c": [5.0, 5.01]})
    assert {arm.status for arm in judgement.arms} == {"best", "unresolved"}
    assert {verdict.verdict for verdict in judgement.verdicts} == {"inconclusive"}
    assert {verdict.winner for verdict in judgement.verdicts} == {None}
    assert "better" not in judgement.known
    assert judgement.recommendation.withheld is not None


def test_when_everything_diverges_more_seeds_are_not_the_remedy():
    judgement = weigh_arms({"a": [math.inf] * 3, "b": [math.inf] * 3})
    assert "without diverging" in judgement.unknown
    assert "seeds" not in judgement.unknown


def test_the_axis_is_said_once_in_the_declared_scale():
    """Of a rate a log scale is likely, of nine decays a linear one; what the study declares decides."""
    rates = {f"{r}": [3.0, 3.01, 3.02] for r in (0.09, 0.01, 0.05)}
    settings = {name: {RATE: float(name)} for name in rates}
    for declared, scale in ((None, "log"), ("linear", "linear"), ("log", "log")):
        axis = weigh_arms(rates, settings=settings, vary=(RATE,), scale=declared).axis
        assert axis is not None
        assert (axis.setting, axis.values, axis.scale) == (RATE, (0.01, 0.05, 0.09), scale)
    assert weigh_arms(rates, settings={"0.09": {}}, vary=(RATE,)).axis is None
    assert weigh_arms(rates).axis is None


def test_a_verdict_is_given_either_way_round():
    judged = weigh_arms({"baseline": [3.0, 3.01, 3.02], "b": [2.0, 2.02, 2.01], "c": [2.5, 2.53, 2.52]})
    stored = judged.verdicts[0]
    assert (stored.a, stored.b, stored.winner) == ("b", "baseline", "b")
    turned = judged.verdict("baseline", "b")
    assert turned is not None
    assert turned.difference == pytest.approx(-1.0)
    assert turned.interval == (-stored.interval[1], -stored.interval[0])
    assert (turned.winner, judged.verdict("b", "baseline")) == ("b", stored)
    assert judged.verdict("c", "nobody") is None


def test_more_may_be_better():
    """The mirror image of a loss is judged alike: best, verdicts, statuses; numbers keep their own unit and direction."""
    losses = {"0.005": [1.2, 1.21, 1.23], "0.02": [1.0, 1.02, 1.01], "0.08": [1.4, 1.42, 1.45], "0.3": [math.inf] * 3}
    scores = {name: [-value for value in values] for name, values in losses.items()}
    settings = {name: {RATE: float(name)} for name in losses}
    confirm = {"0.02": [-1.02, -1.0, -1.03]}
    less = weigh_arms(losses, settings=settings, vary=(RATE,), confirm={"0.02": [1.02, 1.0, 1.03]})
    more = weigh_arms(scores, settings=settings, vary=(RATE,), confirm=confirm, goal="maximize", metric="accuracy")
    assert more.best
    assert less.best
    assert (more.best.arm, more.unresolved) == ("0.02", less.unresolved)
    assert more.best.mean == pytest.approx(-less.best.mean)
    assert more.best.interval == pytest.approx((-less.best.interval[1], -less.best.interval[0]))  # type: ignore[index]
    assert [arm.status for arm in more.arms] == [arm.status for arm in less.arms]
    assert [arm.mean for arm in more.arms][-1] == -math.inf
    for one, other in zip(more.verdicts, less.verdicts, strict=True):
        assert (one.verdict, one.winner, one.more_seeds) == (other.verdict, other.winner, other.more_seeds)
        assert one.difference == pytest.approx(-(other.difference or 0))
    assert more.ranges == less.ranges
    assert more.to_dict()["arms"][-1]["mean"] == "-inf"
    few = weigh_arms(
        {name: values[:1] for name, values in scores.items()}, settings=settings, vary=(RATE,), goal="maximize"
    )
    assert "0.02 has the greatest" in few.known


def test_runs_without_seeds_are_not_paired():
    """Their keys only number them."""
    arms = (
        ArmRuns("a", {}, {0: 3.0, 1: 3.01, 2: 3.02, 3: 3.01}),
        ArmRuns("b", {}, {4: 2.0, 5: 2.01, 6: 2.02}),
    )
    judged = weigh(Evidence("q", "val_loss", 0.01, 0.05, (), arms, is_seeded=False))
    assert [(v.verdict, v.n, v.paired, v.runs) for v in judged.verdicts] == [("winner", 3, False, (3, 4))]
    assert (judged.best and judged.best.arm, judged.arms[0].seeds) == ("b", (None,) * 4)
    assert "3 to 4 runs, unpaired" in judged.known
    assert "on the 3 runs that chose it" in judged.known


def test_seeds_that_are_missing_are_not_called_enough():
    """At one seed nothing is known of the noise; at two the seeds that would settle it are, at that noise."""
    one = weigh_arms({"a": [3.0], "b": [3.01], "c": [3.2]})
    assert [v.more_seeds for v in one.verdicts] == [None, None]
    two = weigh_arms({"a": [3.0, 3.02], "b": [3.004, 3.03], "c": [3.01, 3.05]}, min_effect=0.001)
    assert [v.verdict for v in two.verdicts] == ["inconclusive"] * 2
    assert min(v.more_seeds or 0 for v in two.verdicts) > 1


def test_the_least_mean_is_not_said_of_an_arm_that_has_it_on_shared_seeds_only():
    judged = weigh_arms({"four": [3.1, 3.0, 2.99, 3.3], "three": [3.11, 3.01, 3.0], "worse": [3.3, 3.2, 3.21]})
    assert judged.best
    assert judged.best.arm == "four"
    assert "four is ahead on the seeds that arms share" in judged.known
    assert "three, on other seeds, has the least mean, 3.040 nats" in judged.known


def test_an_arm_of_fewer_runs_is_not_said_to_be_least_nor_passed_over_in_silence():
    judged = weigh_arms({"one": [3.0], "three": [3.1, 3.0, 2.99], "worse": [3.3, 3.2, 3.21]})
    assert judged.best
    assert judged.best.arm == "three"
    assert "of the arms with 3 runs or more three has the least mean val_loss, 3.030 nats" in judged.known
    assert "one is lower, 3.000 nats on 1 seed, too few to tell" in judged.known


@pytest.mark.parametrize(("optimum", "inside"), [(0.031, False), (0.027, True)])
def test_a_recommendation_outside_of_the_optimums_interval_says_so(optimum, inside):
    """0.027 is the least of the six by a planted 0.003, wherever the parabola has its optimum."""
    rates = [0.01, 0.02, 0.027, 0.04, 0.06, 0.09]
    values = {f"{r}": [3 + 0.1 * math.log(r / optimum) ** 2 + s / 1e4 for s in (0, 1, 2)] for r in rates}
    values["0.027"] = [v - 0.003 for v in values["0.027"]]
    judged = weigh_arms(values, settings={name: {RATE: float(name)} for name in values}, vary=(RATE,))
    assert isinstance(judged.optimum, Optimum)
    assert judged.best is not None
    assert judged.best.arm == "0.027"
    low, high = judged.optimum.interval
    assert (low <= 0.027 <= high) == inside
    assert judged.recommendation.text is not None
    assert ("the optimum lies between" in judged.recommendation.text) != inside


def test_numbers_are_judged_without_studies_stores_and_readers_of_reports():
    code = "import sys, blueberry.judge.judging; print(*[name for name in sys.modules if name.startswith('blueberry')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    reached = {name.split(".")[1] for name in loaded if "." in name}
    columns = {f"blueberry.tables.{name}" for name in ("columns", "progress", "rows")}  # what names of columns say
    assert {name for name in loaded if ".tables." in name} <= columns
    assert not reached & {"study", "proofread", "lm", "text", "report"}, sorted(loaded)
