"""Tables as people have them: arms of other seeds, of no seeds, a few noisy arms, single runs and a borrowed sigma."""

from itertools import count

import numpy as np
import pytest
from scipy import stats

import blueberry
from blueberry.report.page import Page, how_judged

APRIL = {314: 1.06475, 777: 1.06381, 1: 1.06532, 2025: 1.06403, 1337: 1.06577}
MAY = {42: 1.06150, 0: 1.06152, 1234: 1.06105}
TUNED = (3.27781, 3.27900, 3.27859, 3.27926, 3.27749, 3.27739, 3.28031, 3.28009, 3.27841, 3.27756)
FLOOR = (3.27582, 3.27599, 3.27939, 3.27840, 3.27495, 3.27920, 3.27610, 3.27632, 3.27681, 3.27709)
NOISY_HALF = {
    "a": (1.36143, 1.36280, 1.35732, 1.36109, 1.35677),
    "b": (1.40707, 1.40805, 1.40669, 1.40555, 1.40265),
    "c": (1.29235, 1.41360, 1.40258, 1.37858, 1.36590),
    "d": (1.44315, 1.49645, 1.39861, 1.35559, 1.41197),
    "e": (1.40002, 1.39765, 1.39773, 1.40101, 1.39921),
    "f": (1.47755, 1.50507, 1.51156, 1.52225, 1.60346),
    "g": (1.50405, 1.50069, 1.50092, 1.50185, 1.49732),
    "h": (1.60323, 1.60355, 1.59711, 1.60061, 1.59900),
}


def rows(arms, *, seeds=True):
    """Rows of a table; `arms` by name, each a mapping by seed or values on seeds 0, 1, ..."""
    by_seed = {name: values if isinstance(values, dict) else dict(enumerate(values)) for name, values in arms.items()}
    return [
        {"arm": name, "val_loss": value} | ({"seed": seed} if seeds else {})
        for name, runs in by_seed.items()
        for seed, value in runs.items()
    ]


def welch(a, b):
    found = stats.ttest_ind(b, a, equal_var=False)
    return found.pvalue, tuple(found.confidence_interval(0.95))


def test_two_arms_of_other_seeds_are_judged_by_welch_and_told_as_unpaired():
    judged = blueberry.analyse(rows({"april": APRIL, "may": MAY}), vary="arm")
    (verdict,) = judged.verdicts
    p, ends = welch(list(MAY.values()), list(APRIL.values()))
    assert p < 0.0004
    assert (verdict.winner, verdict.paired, verdict.sigma, verdict.runs, verdict.n) == (
        "may",
        False,
        "measured",
        (3, 5),
        3,
    )
    assert verdict.interval == pytest.approx(ends)
    assert not judged.blocks
    assert "unpaired" in judged.known
    assert "paired seed" not in judged.known.replace("unpaired", "")
    assert how_judged(judged)[0].startswith("No pairs")
    assert "unpaired" in {row.against_best.n for row in Page(judged, ()).rows if row.against_best}.pop()
    assert judged.to_dict()["verdicts"][0]["paired"] is False


def test_runs_that_say_no_seed_are_ten_runs_each():
    judged = blueberry.analyse(rows({"tuned-muon": TUNED, "floor": FLOOR}, seeds=False), vary="arm")
    (verdict,) = judged.verdicts
    p, ends = welch(FLOOR, TUNED)
    assert p == pytest.approx(0.015, abs=0.001)
    assert (verdict.winner, verdict.n, verdict.runs) == ("floor", 10, (10, 10))
    assert verdict.interval == pytest.approx(ends)
    assert "10 runs each, unpaired" in judged.known
    assert "1 seed" not in judged.known
    assert not judged.blocks


def test_a_few_noisy_arms_do_not_blur_the_others():
    """The better half holds two of them: pooled over it, b - a would be known to 0.08."""
    judged = blueberry.analyse(rows(NOISY_HALF), vary="arm")
    verdict = judged.verdict("a", "b")
    assert verdict is not None
    assert verdict.interval is not None
    assert verdict.winner == "a"
    assert 0.035 < verdict.interval[0] < verdict.difference < verdict.interval[1] < 0.057
    assert judged.arm("c").status == "unresolved"
    assert judged.noise.prior_df is not None
    assert judged.noise.prior_df < 10


def test_a_table_may_have_pairs_and_others():
    later = dict(zip(range(5, 10), (1.10, 1.11, 1.12, 1.11, 1.10), strict=True))
    judged = blueberry.analyse(rows({"a": (1.0, 1.01, 1.02, 1.01, 1.0), "b": (1.05,) * 5, "later": later}), vary="arm")
    assert {v.b: v.paired for v in judged.verdicts} == {"b": True, "later": False}
    assert "5 seeds and 5 runs each, unpaired" in judged.known
    assert "are compared unpaired" in how_judged(judged)[0]


@pytest.mark.parametrize("shared", [0, 2])
def test_few_shared_seeds_make_no_pairs(shared):
    number = count()
    other = {seed if seed < shared else 100 + next(number): 1.1 + 0.01 * seed for seed in range(4)}
    judged = blueberry.analyse(rows({"a": (1.0, 1.01, 1.02, 1.01), "b": other}), vary="arm")
    assert [v.paired for v in judged.verdicts] == [False]
    assert judged.verdicts[0].winner == "a"


def test_arms_of_two_runs_are_not_judged_without_a_sigma():
    arms = {"a": (1.0, 1.01), "b": (1.2, 1.21)}
    judged = blueberry.analyse(rows(arms), vary="arm")
    assert [audit.audit for audit in judged.blocks] == ["seeds"]
    assert judged.verdicts[0].interval is None
    borrowed = blueberry.analyse(rows(arms), vary="arm", sigma=0.01)
    assert borrowed.verdicts[0].winner == "a"
    assert not borrowed.blocks


def test_an_arm_of_one_run_is_open_and_the_others_are_judged():
    judged = blueberry.analyse(
        rows({"a": (1.0, 1.01, 1.02, 1.01), "b": (1.2, 1.21, 1.22, 1.2), "once": (0.9,)}), vary="arm"
    )
    assert judged.best is not None
    assert judged.best.arm == "a"
    assert judged.unresolved == ("a", "once")
    assert judged.arm("b").status == "worse"
    assert [(audit.audit, audit.severity) for audit in judged.audits if audit.audit == "seeds"] == [("seeds", "warn")]
    assert "once" in judged.known


def test_a_claim_on_a_borrowed_sigma_says_so():
    table = [{"run": "base", "val_loss": 0.9979}, {"run": "candidate", "val_loss": 0.9952}]
    judged = blueberry.analyse(table, vary="run", sigma=0.0007)
    (verdict,) = judged.verdicts
    half = stats.norm.isf(0.025) * 0.0007 * 2**0.5
    assert verdict.interval == pytest.approx((0.0027 - half, 0.0027 + half))
    assert (verdict.winner, verdict.sigma, verdict.paired) == ("candidate", "borrowed", False)
    assert "rests on borrowed noise" in judged.known
    assert "0.0007" in judged.known
    assert "borrowed noise" in how_judged(judged)[0]
    assert (judged.noise.borrowed_sd, judged.noise.borrowed_from) == (0.0007, "--sigma")
    fewer = blueberry.analyse(table, vary="run", sigma="0.0007/4")
    assert fewer.verdicts[0].winner is None  # t with three degrees of freedom
    assert fewer.verdicts[0].more_seeds == 2


def test_runs_that_scatter_more_than_what_was_borrowed_warn():
    noisy = {"a": (1.0, 1.1, 1.2), "b": (1.3, 1.1, 1.2)}
    judged = blueberry.analyse(rows(noisy), vary="arm", sigma=0.01)
    assert any("borrowed" in audit.message for audit in judged.audits if audit.severity == "warn")
    quiet = blueberry.analyse(rows(noisy), vary="arm", sigma=0.1)
    assert not any("borrowed" in audit.message for audit in quiet.audits)


def test_unpaired_null_studies_have_no_more_false_winners_than_alpha():
    rng = np.random.default_rng(3)
    false = 0
    for _ in range(50):
        judged = blueberry.analyse(rows({f"a{k}": rng.normal(size=4) + 3 for k in range(4)}, seeds=False), vary="arm")
        false += any(v.winner for v in judged.verdicts)
    assert stats.binomtest(false, 50, 0.05, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("vary", [(), ("arm",)])
def test_one_arm_alone_is_a_noise_floor(vary):
    values = (3.270, 3.280, 3.275, 3.271)
    table = [{"val_loss": value} | ({"arm": "a"} if vary else {}) for value in values]
    judged = blueberry.analyse(table, vary=vary)
    (arm,) = judged.arms
    sd = np.std(values, ddof=1)
    ends = tuple(sd * (3 / stats.chi2.isf(tail, 3)) ** 0.5 for tail in (0.025, 0.975))
    assert (arm.mean, arm.sd) == (pytest.approx(3.274), pytest.approx(sd))
    assert arm.sd_interval == pytest.approx(ends)
    assert judged.verdicts == ()
    assert not judged.blocks
    assert "4 runs a side" in judged.known
    assert judged.recommendation.withheld
    Page(judged, ())


def test_what_a_noise_floor_says_can_be_told_is_told_in_four_of_five_studies():
    rng = np.random.default_rng(4)
    floor = blueberry.analyse([{"val_loss": value} for value in rng.normal(size=200) + 3], vary=())
    gap = floor.detectable.difference
    assert floor.detectable.seeds == 200
    assert gap == pytest.approx(2.8 * (2 / 200) ** 0.5, rel=0.1)


LONG, SHORT = (3.30, 3.31, 3.32, 3.31, 3.30, 3.32, 3.31, 3.30), {100: 3.10, 101: 3.11, 102: 3.12, 103: 3.11}


@pytest.mark.parametrize(
    ("arms", "goal"),
    [
        ({"baseline": LONG, "a": SHORT}, "minimize"),  # better than the baseline: the best is told from it, turned
        ({"baseline": SHORT, "a": LONG}, "minimize"),
        ({"baseline": LONG, "a": SHORT}, "maximize"),
        ({"baseline": LONG, "a": SHORT, "b": (3.20, 3.22, 3.21)}, "minimize"),
        ({"baseline": (*LONG[:4], 9.0), "a": SHORT, "b": (3.13, 3.14, 3.13)}, "minimize"),  # its best run stands for it
        ({"baseline": (*LONG[:4], float("inf")), "a": SHORT}, "minimize"),
        ({"a": LONG, "b": SHORT}, "minimize"),
    ],
)
def test_runs_of_a_verdict_are_those_of_its_two_arms_in_their_order(arms, goal):
    judged = blueberry.analyse(rows(arms), vary="arm", goal=goal)
    assert judged.verdicts
    for verdict in judged.verdicts:
        assert verdict.runs == (len(arms[verdict.a]), len(arms[verdict.b]))


def test_how_many_runs_of_an_unstable_baseline_are_worse_is_said_of_its_own():
    judged = blueberry.analyse(rows({"baseline": (*LONG[:4], 9.0), "a": SHORT}), vary="arm")
    assert "Runs of baseline blow up" in judged.known
    assert "each of its 5 runs is worse than a" in judged.known
