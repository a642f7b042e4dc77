"""Paired differences of named arms."""

import math

import planted
import pytest

from blueberry.report.differences import differences, differences_caption
from blueberry.report.page_tables import verdict_words


def test_the_baseline_is_the_reference_where_there_is_one() -> None:
    shown = differences(planted.named().judgement)
    assert shown is not None
    assert shown.reference == "baseline"
    assert shown.rows[0].arm == "half_batch"
    found = [row.difference for row in shown.rows]
    assert found == sorted(found, key=lambda x: x if x is not None else math.inf)


def test_a_difference_is_the_mean_over_shared_seeds_of_arm_minus_reference() -> None:
    study = planted.named()
    shown = differences(study.judgement)
    assert shown is not None
    values = {arm.arm: arm.values for arm in study.judgement.arms}
    for row in shown.rows:
        pairs = [x - y for x, y in zip(values[row.arm], values["baseline"], strict=True)]
        assert [value for _, value in row.seeds] == pytest.approx(pairs)
        assert row.difference == pytest.approx(sum(pairs) / len(pairs))


def test_a_verdict_stated_the_other_way_round_is_turned() -> None:
    judgement = planted.two_arms().judgement
    turned = judgement.model_copy(update={"verdicts": judgement.verdicts[:1]})
    stated = turned.verdicts[0]
    assert (stated.a, stated.b) == ("half_batch", "baseline")
    verdict = turned.verdict("baseline", "half_batch")
    assert verdict is not None
    assert stated.difference is not None
    assert stated.interval is not None
    assert verdict.difference == -stated.difference
    assert verdict.interval == (-stated.interval[1], -stated.interval[0])
    assert verdict_words(verdict, "baseline") == "better"
    assert verdict_words(stated, "half_batch") == "worse"


def test_without_a_baseline_the_best_arm_is_the_reference() -> None:
    arms = {name: ({"model.dropout": 0.1}, values) for name, values in (("a", [4.0, 4.1]), ("b", [4.3, 4.5]))}
    shown = differences(planted.Planted(arms, vary=()).judgement)
    assert shown is not None
    assert shown.reference == "a"
    assert [row.arm for row in shown.rows] == ["b"]


def test_the_picture_holds_the_band_and_a_far_arm_is_said_to_be_further_right() -> None:
    study = planted.named()
    arms = {arm.arm: (dict(arm.settings), list(arm.values)) for arm in study.judgement.arms}
    arms["qk_norm"] = ({}, [value + 50 for value in arms["qk_norm"][1]])
    shown = differences(planted.Planted(arms, vary=()).judgement)
    assert shown is not None
    assert shown.x_range[0] < -shown.min_effect
    assert shown.min_effect < shown.x_range[1] < 5
    assert "1 arm further right than the picture" in differences_caption(shown)


def test_a_diverged_arm_has_no_difference_and_is_not_dropped() -> None:
    arms = {"baseline": ({}, [4.0, 4.1, 4.0]), "hot": ({}, [math.inf, 4.0, 4.1]), "cool": ({}, [4.2, 4.3, 4.1])}
    shown = differences(planted.Planted(arms, vary=()).judgement)
    assert shown is not None
    hot = next(row for row in shown.rows if row.arm == "hot")
    assert hot.difference is None
    assert hot.num_diverged == 1
    assert len(hot.seeds) == 2
    assert "Crosses" in differences_caption(shown)
