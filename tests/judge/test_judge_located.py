"""What is said of a search along one axis: when it finds a valley, when there is none, and within parts."""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blueberry
from blueberry import api
from blueberry.errors import StudyError
from blueberry.judge.evidence import valley_of
from blueberry.judge.judgement import Bound, Judgement, Optimum
from blueberry.stats.optimum import read_valley
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

RATE = "optimizer.muon.learning_rate"
RANGE = {RATE: {"log": [0.001, 1.0]}}


def study(tmp_path: Path, **changes: Any) -> Study:
    given = {
        "question": "Which rate?",
        "base": "moe-nano",
        "min_effect": 0.01,
        "set": {"train.updates": 60},
        "vary": RANGE,
        "strategy": {"method": "locate"},
        **changes,
    }
    return Study.parse({key: value for key, value in given.items() if value is not None}, tmp_path / "rates.toml")


def judged(of: Study, tmp_path: Path, **truth: Any) -> Judgement:
    found = api.conduct(of, store=tmp_path / "store", trainer=Synthetic(**truth), workers=0)
    assert not found.plan.todo
    assert found.plan.num_undecided == 0
    return found.judgement


def test_a_valley_gives_a_value_its_cost_at_worst_and_what_that_rests_on(tmp_path: Path) -> None:
    judgement = judged(study(tmp_path), tmp_path)
    assert judgement.located is not None
    assert judgement.located.ended == "located"
    assert judgement.located.runs == 13
    assert judgement.located.excess is not None
    assert judgement.located.excess <= judgement.min_effect
    assert judgement.best is not None
    assert judgement.best.confirmed
    assert judgement.best.n == 5
    assert judgement.best.settings == {RATE: judgement.located.value}
    assert isinstance(judgement.optimum, Optimum)
    assert judgement.optimum.interval[0] <= 0.03 <= judgement.optimum.interval[1]
    assert not judgement.blocks
    assert judgement.recommendation.settings == judgement.best.settings
    for said in (judgement.known, judgement.recommendation.text or ""):
        assert "if the curve is one smooth valley" in said
    assert "13 runs on 2 seeds" in judgement.known
    assert {arm.status for arm in judgement.arms} == {"best", "unresolved", "worse"} or len(judgement.unresolved) == 1


def test_the_values_that_a_search_showed_to_be_clearly_worse_are_to_be_avoided(tmp_path: Path) -> None:
    """Worse than the recommended one by min_effect or more, noise and all; not the ones beside it."""
    asked = study(tmp_path)
    judgement = judged(asked, tmp_path)
    said = {purpose.purpose: purpose for purpose in judgement.purposes}["avoid"]
    trained = {arm.arm: arm.settings[RATE] for arm in judgement.arms if arm.n}
    truth = {name: Synthetic().expected_nats(asked.base.with_({RATE: rate})) or 0.0 for name, rate in trained.items()}
    assert "learning_rate=0.001" in said.arms
    assert all(truth[name] >= min(truth.values()) + judgement.min_effect for name in said.arms)
    far = [name for name in trained if truth[name] >= min(truth.values()) + 0.3]
    assert far
    assert set(far) <= set(said.arms)
    assert "worse than the best by 0.01 or more, if runs there are as noisy" in (said.evidence or "")


def test_where_the_noise_is_as_large_as_what_values_cost_nothing_is_to_be_avoided(tmp_path: Path) -> None:
    judgement = judged(study(tmp_path, strategy={"method": "locate", "runs": 13}), tmp_path, noise_nats=2.0)
    if judgement.is_located:
        (said,) = (purpose for purpose in judgement.purposes if purpose.purpose == "avoid")
        assert said.because == "no run failed, and no arm was shown to be worse by what matters"


def test_what_is_stated_is_in_the_insights(tmp_path: Path) -> None:
    told = judged(study(tmp_path), tmp_path).to_dict()
    assert told["optimum"]["assumption"] == "the curve is one smooth valley along the axis"
    assert told["located"]["ended"] == "located"
    assert told["valley"]["curve"][0]["value"] < told["located"]["value"] < told["valley"]["curve"][-1]["value"]


def test_a_cliff_is_named_and_the_values_are_raced(tmp_path: Path) -> None:
    judgement = judged(study(tmp_path), tmp_path, diverges_above=0.04)
    assert judgement.located is not None
    assert judgement.located.ended == "cliff"
    assert judgement.best is not None
    assert judgement.best.settings[RATE] <= 0.04
    assert judgement.ended == "settled"
    assert "cliff" in judgement.known
    assert [audit.severity for audit in judgement.audits if audit.audit == "valley"] == ["warn"]
    assert not judgement.blocks
    assert not isinstance(judgement.optimum, Optimum)


def test_an_optimum_beyond_what_a_list_holds_is_blocked_at_its_edge(tmp_path: Path) -> None:
    listed = {RATE: {"log": [0.0005, 0.008], "points": 9}}
    judgement = judged(study(tmp_path, vary=listed), tmp_path, optimum=0.05)
    assert [audit.audit for audit in judgement.blocks] == ["edge"]
    assert isinstance(judgement.optimum, Bound)
    assert judgement.optimum.side == "above"
    assert judgement.recommendation.withheld is not None


def test_a_budget_is_kept_and_what_it_could_not_show_is_said(tmp_path: Path) -> None:
    of = study(tmp_path, strategy={"method": "locate", "runs": 13}, min_effect=0.0001)
    judgement = judged(of, tmp_path, noise_nats=0.02)
    assert judgement.located is not None
    assert judgement.located.runs == 13
    assert judgement.located.ended == "runs"
    assert judgement.located.excess is not None
    assert judgement.located.excess > judgement.min_effect
    assert "Whether it is within 0.0001 nats of the best" in judgement.unknown
    assert "[strategy] runs" in judgement.unknown


def test_each_arm_is_tuned_by_a_search_of_its_own(tmp_path: Path) -> None:
    of = study(tmp_path, vary={"model.feed_forward.kind": ["mlp", "swiglu"]}, tune=RANGE)
    choices = (("model.feed_forward.kind", "swiglu", -0.05),)
    judgement = judged(of, tmp_path, choices=choices, moves=(("model.feed_forward.hidden", 0.0),))
    assert judgement.best is not None
    assert "swiglu" in judgement.best.arm
    assert all(part.judgement.located is not None for part in judgement.parts)
    assert not judgement.blocks


def test_conditions_compare_what_one_value_costs_elsewhere(tmp_path: Path) -> None:
    of = study(tmp_path, set={}, across={"train.updates": [60, 240, 960]})
    judgement = judged(of, tmp_path, moves=(("train.updates", -0.3),))
    assert judgement.conditions[0].holds == "best"
    assert judgement.conditions[-1].holds == "worse"
    (law,) = [law for law in judgement.laws if law.of == RATE]
    assert law.powers[0].interval[0] <= -0.3 <= law.powers[0].interval[1]


def test_a_metric_of_which_more_is_better_is_searched_for_its_most(tmp_path: Path) -> None:
    of = study(tmp_path, metric="val_accuracy", goal="maximize", min_effect=0.001)
    judgement = judged(of, tmp_path)
    assert judgement.located is not None
    assert judgement.located.value == pytest.approx(0.03, rel=0.3)
    assert judgement.valley is not None
    assert all(0 < point.expected < 1 for point in judgement.valley.curve)


def test_single_runs_of_a_table_locate_the_optimum_and_tell_no_arm_from_another(tmp_path: Path) -> None:
    draw = random.Random(1)
    rates = [0.001 * 1000 ** (place / 23) for place in range(24)]
    rows = [f"{rate:.6g},{3.3 + 0.05 * math.log(rate / 0.03) ** 2 + draw.gauss(0, 0.005):.6f}" for rate in rates]
    (tmp_path / "runs.csv").write_text("\n".join(["learning_rate,val_loss", *rows]))
    judgement = blueberry.analyse(tmp_path / "runs.csv", vary=["learning_rate"])
    assert isinstance(judgement.optimum, Optimum)
    assert judgement.optimum.interval[0] <= 0.03 <= judgement.optimum.interval[1]
    assert judgement.optimum.interval[1] / judgement.optimum.interval[0] < 3
    assert "If the curve is one smooth valley" in judgement.known
    assert [audit.audit for audit in judgement.blocks] == ["seeds"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vary": {RATE: [0.01, 0.02, 0.04]}}, "needs a range or 5 values"),
        ({"vary": {"model.feed_forward.kind": ["mlp", "moe"]}}, "needs numbers"),
        ({"vary": {**RANGE, "model.dropout": {"linear": [0.0, 0.3]}}}, "searches along one axis"),
        ({"vary": None, "arms": {"a": {"model.dropout": 0.1}}}, "looks for values on axes"),
        ({"strategy": {"method": "locate", "runs": 3}}, "runs"),
        ({"strategy": {"method": "grid", "runs": 13}, "vary": {RATE: [0.1, 0.2]}}, "belongs to another method"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(changes: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=said) as caught:
        study(tmp_path, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ends", [(0.004, 0.25), (0.003, 0.3), (0.01125, 0.08891), (0.7, 7.0), (1e-7, 1e-3)])
def test_the_ends_of_a_window_are_in_it_though_a_logarithm_and_back_rounds(ends: tuple[float, float]) -> None:
    values = np.geomspace(*ends, 7)
    values[[0, -1]] = ends
    x = np.log(values)
    found = read_valley(x, np.stack([(x - x.mean()) ** 2 + noise for noise in (0.0, 0.1)], axis=1), alpha=0.05)
    assert found is not None
    valley = valley_of(RATE, found, math.exp, 0.95)
    low, high = np.exp(found.window)
    for value in values[(values > 0.99 * low) & (values < 1.01 * high)]:
        assert valley.at(float(value)) is not None
    assert valley.at(0.99 * float(low)) is None
    assert valley.at(1.01 * float(high)) is None
