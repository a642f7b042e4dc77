"""Curves: means that never hide a lost run, lines cut at the frame, labels that do not overlap."""

import itertools
from dataclasses import replace

import planted
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueberry.report.learning_curves import Window, _remark, _short, _told, _whole, cut, learning_curves, spread


def test_an_arm_mean_is_the_mean_of_all_its_seeds(sweep: planted.Planted) -> None:
    arm = learning_curves(sweep.judgement, sweep.runs).arms[2]
    runs = [run for run in sweep.runs if run.arm == arm.arm and run.stage == "search"]
    last = [run.result.evaluations[-1].validation.loss for run in runs]
    assert arm.validation[-1][0] == planted.UPDATES
    assert arm.validation[-1][1] == pytest.approx(sum(last) / 3)


def test_confirming_runs_do_not_enter_the_curves(sweep: planted.Planted) -> None:
    curves = learning_curves(sweep.judgement, sweep.runs)
    best = next(arm for arm in curves.arms if arm.status == "best")
    assert best.seeds == (0, 1, 2)


def test_a_mean_ends_where_its_first_run_does(sweep: planted.Planted) -> None:
    """The survivors' mean would show an arm that did not exist."""
    arm = next(arm for arm in learning_curves(sweep.judgement, sweep.runs).arms if arm.arm == "0.5012")
    assert arm.diverged == (True, False, False)
    assert arm.validation[-1][0] <= planted.UPDATES // 3
    assert arm.seed_validation[1][-1][0] == planted.UPDATES


def test_training_loss_is_averaged_over_blocks_at_their_middle() -> None:
    study = planted.sweep(updates=300)
    curves = learning_curves(study.judgement, study.runs)
    assert curves.block_updates == 3
    line = curves.arms[0].seed_training[0]
    losses = study.runs[0].result.curve.train_loss
    assert len(line) == 100
    assert [update for update, _ in line[:2]] == [2.0, 5.0]
    assert line[1][1] == pytest.approx(sum(x for x in losses[3:6] if x is not None) / 3)


def test_a_block_with_a_loss_that_is_not_finite_is_a_gap(sweep: planted.Planted) -> None:
    arm = next(arm for arm in learning_curves(sweep.judgement, sweep.runs).arms if arm.arm == "1")
    assert arm.seed_training[0][-1][1] is None


def test_the_second_half_is_scaled_to_the_better_arms(sweep: planted.Planted) -> None:
    curves = learning_curves(sweep.judgement, sweep.runs)
    assert curves.whole is not None
    assert curves.late is not None
    assert curves.late.updates == (100.0, 200.0)
    height = [window.losses[1] - window.losses[0] for window in (curves.whole, curves.late)]
    assert height[1] < height[0] / 2


def test_a_picture_of_what_was_evaluated_begins_with_the_first_time_and_leaves_out_how_training_began() -> None:
    line = ((50.0, 4.6), (100.0, 4.3))
    assert _whole([line], 100) == Window((50.0, 100.0), (pytest.approx(4.288), pytest.approx(4.612)))
    training = ((1.0, 6.2), (100.0, 4.3))
    assert _whole([line, training], 100) == Window((0.0, 100.0), (pytest.approx(4.224), pytest.approx(6.276)))


def test_without_runs_there_is_nothing_to_draw(sweep: planted.Planted) -> None:
    curves = learning_curves(sweep.judgement, [])
    assert curves.whole is None
    assert curves.late is None
    assert not curves.any_validation
    assert not curves.any_training


def test_one_evaluation_at_the_end_draws_no_empty_picture(sweep: planted.Planted) -> None:
    last = [
        replace(run, result=run.result.model_copy(update={"evaluations": run.result.evaluations[-1:]}))
        for run in sweep.runs
    ]
    assert learning_curves(sweep.judgement, sweep.runs).any_validation
    assert not learning_curves(sweep.judgement, last).any_validation


def test_a_line_is_cut_where_it_crosses_the_top() -> None:
    line = ((0.0, 1.0), (10.0, 3.0), (20.0, 1.0), (30.0, None))
    kept = cut(line, Window((0.0, 30.0), (0.0, 2.0)))
    assert kept == ((0.0, 1.0), (5.0, 2.0), (10.0, None), (15.0, 2.0), (20.0, 1.0), (30.0, None))


def test_a_line_is_cut_to_the_updates_of_the_window() -> None:
    line = ((0.0, 1.0), (10.0, 1.5), (20.0, 1.2))
    assert cut(line, Window((10.0, 20.0), (0.0, 2.0))) == ((10.0, 1.5), (20.0, 1.2))


@given(st.lists(st.floats(0, 100), max_size=12).map(sorted))
def test_labels_keep_their_order_and_distance(places: list[float]) -> None:
    apart = spread(places, 5.0, 0.0, 100.0)
    assert len(apart) == len(places)
    assert all(b - a >= 5.0 - 1e-9 for a, b in itertools.pairwise(apart))
    assert all(2.5 - 1e-9 <= place <= 97.5 + 1e-9 for place in apart)


def test_labels_that_have_room_stay_where_they_are() -> None:
    assert spread([10.0, 50.0, 90.0], 5.0, 0.0, 100.0) == [10.0, 50.0, 90.0]


def test_a_name_beside_the_picture_says_where_its_line_is(sweep: planted.Planted) -> None:
    arm = next(arm for arm in learning_curves(sweep.judgement, sweep.runs).arms if not any(arm.diverged))
    half = Window((100.0, 200.0), (4.0, 5.0))
    assert _remark(arm, 200.0, 4.5, half) == ""
    assert _remark(arm, 100.0, 4.5, half) == " (to 100)"
    assert _remark(arm, 200.0, 5.5, half) == " (above)"


def test_a_curve_of_tiny_losses_keeps_its_shape() -> None:
    assert [_short(loss) for loss in (3.4123456, 0.0123456789, 2.3456789e-6, None)] == [
        3.41235,
        0.012346,
        2.3457e-6,
        None,
    ]
    formats = [_told(Window((0.0, 1.0), (0.0, top))).to_dict()["format"] for top in (4.0, 1e-5)]
    assert formats == [".4f", ".3g"]
