"""The main figure's record, before anything is drawn."""

import math
from dataclasses import replace

import planted
import pytest

from blueberry.judge.judgement import Bound, Judgement, Optimum, block
from blueberry.report.charts import find_axis, picture_range
from blueberry.report.lr_curve import Place, curve_caption, lr_curve


def far_arm(height: float) -> planted.Planted:
    """A shallow valley and one arm far above it."""
    arms = planted.valley([0.01, 0.02, 0.04, 0.08, 0.16, 0.32], 3, unstable_from=9)
    settings, values = arms["0.32"]
    arms["0.32"] = (settings, [value + height for value in values])
    return planted.Planted(arms, vary=(planted.RATE,))


def test_every_run_is_in_the_figure_exactly_once(sweep: planted.Planted) -> None:
    curve = lr_curve(sweep.judgement)
    places: tuple[Place, ...] = ("inside", "above", "diverged")
    assert [curve.count(place) for place in places] == [29, 0, 4]
    for point in curve.points:
        given = [*zip(point.arm.seeds, point.arm.values, strict=True)]
        assert sorted(run for place in places for run in point.runs(place)) == sorted(given)
        assert [value for _, value in point.runs("diverged")] == [v for v in point.arm.values if math.isinf(v)]
    assert [p.x for p in curve.points] == sorted(p.x for p in curve.points)


def test_a_mean_with_a_diverged_run_is_not_drawn_but_its_runs_are(sweep: planted.Planted) -> None:
    curve = lr_curve(sweep.judgement)
    point = curve.at("0.5012")
    assert point.mean is None
    assert point not in curve.shown
    assert (len(point.runs("diverged")), len(point.arm.values)) == (1, 3)


def test_the_band_holds_the_unresolved_arms_and_no_other(sweep: planted.Planted) -> None:
    curve = lr_curve(sweep.judgement)
    assert curve.band is not None
    inside = {p.arm.arm for p in curve.points if curve.band[0] <= p.x <= curve.band[1]}
    assert inside == set(sweep.judgement.unresolved)


def test_one_arm_far_above_is_marked_and_does_not_flatten_the_valley() -> None:
    study = far_arm(8.0)
    curve = lr_curve(study.judgement)
    assert curve.y_range is not None
    (far,) = [point for point in curve.points if point.runs("above")]
    assert (far.arm.arm, len(far.runs("above"))) == ("0.32", 3)
    assert far not in curve.shown
    assert curve.y_range[1] - curve.y_range[0] < 1.0
    assert "3 of 18 runs ended above the picture" in curve_caption(curve)


def test_nothing_is_cut_where_everything_fits() -> None:
    curve = lr_curve(far_arm(0.0).judgement)
    assert curve.count("above") == 0
    assert curve.y_range is not None
    assert all(curve.y_range[0] < value for point in curve.points for _, value in point.runs("inside"))


def test_the_confirmed_value_and_its_interval_are_in_the_picture(sweep: planted.Planted) -> None:
    curve, best = lr_curve(sweep.judgement), sweep.judgement.best
    assert curve.confirmed is not None
    assert best is not None
    assert curve.y_range is not None
    assert curve.confirmed == best
    assert curve.at(best.arm).x == best.settings[planted.RATE]
    assert best.interval is not None
    assert curve.y_range[0] < best.interval[0]


def test_an_unconfirmed_best_has_no_fresh_value() -> None:
    assert lr_curve(planted.edge().judgement).confirmed is None


def test_optimum_or_bound_is_passed_on(sweep: planted.Planted) -> None:
    assert isinstance(lr_curve(sweep.judgement).optimum, Optimum)
    assert isinstance(lr_curve(planted.edge().judgement).optimum, Bound)


def test_when_everything_diverged_there_is_no_loss_to_show() -> None:
    curve = lr_curve(planted.all_diverged().judgement)
    assert curve.y_range is None
    assert curve.band is None
    assert curve.shown == ()
    assert [len(point.runs("diverged")) for point in curve.points] == [3, 3, 3]


def test_one_seed_has_points_without_intervals() -> None:
    curve = lr_curve(planted.one_seed().judgement)
    assert all(point.interval is None and point.mean is not None for point in curve.points)


def test_a_second_setting_makes_series_and_no_band() -> None:
    curve = lr_curve(planted.grid().judgement)
    assert curve.series == ("weight decay = 0", "weight decay = 0.1", "weight decay = 0.3")
    assert curve.band is None
    assert len(curve.points) == 15


def test_the_axis_is_the_first_numeric_setting_or_none() -> None:
    axis = find_axis(planted.sweep().judgement)
    assert axis is not None
    assert axis.log
    assert axis.is_learning_rate
    assert axis.fraction(axis.values[0]) == 0
    assert axis.fraction(axis.values[-1]) == 1
    assert find_axis(planted.named().judgement) is None
    assert find_axis(planted.two_arms().judgement) is None


@pytest.mark.parametrize(
    ("high", "valley", "top"), [(1.0, 1.0, 1.0), (5.9, 1.0, 5.9), (6.1, 1.0, 4.0), (100.0, 1.0, 4.0)]
)
def test_a_picture_is_cut_only_when_it_is_worth_it(high: float, valley: float, top: float) -> None:
    low_end, high_end = picture_range(0.0, high, valley)
    assert high_end == pytest.approx(1.07 * top)
    assert low_end == pytest.approx(-0.07 * top)


def clear(judgement: Judgement) -> Judgement:
    """With a best that every other arm is told apart from."""
    arms = [arm.model_copy(update={"status": arm.status.replace("unresolved", "worse")}) for arm in judgement.arms]
    return judgement.model_copy(update={"arms": tuple(arms)})


def test_the_caption_calls_no_arm_worse_where_an_audit_withholds_that(sweep: planted.Planted) -> None:
    assert "every other is worse" in curve_caption(lr_curve(clear(sweep.judgement)))
    blocked = sweep.judgement.model_copy(update={"audits": (block("seeds", "too few", "more"),)})
    assert "an audit withholds the claim" in curve_caption(lr_curve(blocked))
    assert "worse" not in curve_caption(lr_curve(clear(blocked)))


def test_the_caption_calls_no_arm_worse_that_has_diverged(sweep: planted.Planted) -> None:
    curve = lr_curve(clear(sweep.judgement))
    assert any(point.arm.status == "diverged" for point in curve.points)
    assert "every other is worse or has diverged." in curve_caption(curve)
    kept = tuple(point for point in curve.points if point.arm.status != "diverged")
    assert "every other is worse." in curve_caption(replace(curve, points=kept))
