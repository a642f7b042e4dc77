from pathlib import Path

import numpy as np
import pytest

from blueberry.architecture import cost
from blueberry.judge.forecast import REPORT_SECONDS, forecast
from blueberry.judge.studies import judge
from blueberry.recipe import Recipe
from blueberry.stats.differences import Df, smallest_difference
from blueberry.stats.noise import measure_noise
from blueberry.study.placement import Speed, work
from blueberry.study.plan import plan
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic


@pytest.fixture
def study(tmp_path: Path) -> Study:
    (tmp_path / "r.toml").write_text(Recipe().to_toml())
    text = (
        'question = "?"\nbase = "r.toml"\n[vary]\n"optimizer.muon.learning_rate" = { log = [0.01, 0.1], points = 5 }\n'
    )
    (tmp_path / "lr.toml").write_text(text + "[seeds]\nsearch = 3\nconfirm = 2\n")
    return Study.load(tmp_path / "lr.toml")


def _forecast(study, results, speed=None):
    planned = plan(study, Synthetic.data_digest, results)
    return forecast(study, planned, results, workers=2, lanes=1, speed=speed)


def test_before_the_first_run_speed_and_noise_are_unknown(study):
    seen = _forecast(study, {})
    assert (seen.runs_done, seen.runs_todo) == (0, 17)
    assert (seen.seconds, seen.noise_sd, seen.detectable) == (None, None, None)
    one = cost(study.base)
    assert (seen.tokens, seen.flops) == (17 * one.num_tokens, pytest.approx(17 * one.num_flops))


def test_what_runs_share_is_neither_trained_nor_timed(tmp_path):
    (tmp_path / "r.toml").write_text(Recipe().with_({"train.updates": 400}).to_toml())
    text = 'question = "?"\nbase = "r.toml"\n[vary]\n"train.updates" = [100, 200, 400]\n[seeds]\nconfirm = 0\n[set]\n'
    given = '"schedule.kind" = "warmup-stable-decay"\n"schedule.warmup_updates" = 10\n'
    (tmp_path / "horizon.toml").write_text(text + given)
    study = Study.load(tmp_path / "horizon.toml")
    planned = plan(study, Synthetic.data_digest, {})
    alone, shared = (
        forecast(study, planned, {}, workers=1, lanes=1, speed=Speed(1e9, 3.0, "updates"), shares=shares)
        for shares in (False, True)
    )
    assert (alone.shared_runs, alone.shared_updates, alone.shared_flops) == (0, 0, 0)
    assert (shared.shared_runs, shared.shared_updates) == (6, 3 * (80 + 160))
    share = (80 + 160) / (100 + 200 + 400)
    assert shared.tokens == pytest.approx(alone.tokens * (1 - share))
    assert shared.flops == pytest.approx(alone.flops * (1 - share))
    assert shared.flops + shared.shared_flops == pytest.approx(alone.flops)
    assert shared.seconds == pytest.approx(alone.seconds - shared.shared_seconds)
    assert shared.shared_seconds == pytest.approx(alone.flops * share / 1e9)
    assert shared.disk_bytes > alone.disk_bytes


def test_time_counts_whole_rounds(study):
    """15 runs that search and 2 that confirm, which wait for them, on 2 workers; with evaluations, start-up, report."""
    one = cost(study.base)
    looks = one.num_updates / study.base.evaluate.every_updates + 1
    evaluations = looks * study.base.evaluate.tokens * one.flops_per_token / 3
    assert work(study.base) == pytest.approx(one.num_flops + evaluations)
    seen = _forecast(study, {}, speed=Speed(work(study.base) / 10, 7.0, "updates"))
    assert seen.seconds == pytest.approx((8 + 1) * 10 + 7 + REPORT_SECONDS * 1.5)
    assert seen.seconds_from == "updates"


def test_measured_noise_gives_what_can_be_detected(study):
    planned = plan(study, Synthetic.data_digest, {})
    results = {result.fingerprint: result for result in Synthetic()([run.recipe for run in planned.runs])}
    seen = _forecast(study, results, speed=Speed(1e9, 3.0, "runs"))
    assert (seen.runs_done, seen.runs_todo) == (15, 2)
    assert seen.noise_sd is not None
    assert 0.001 < seen.noise_sd < 0.009  # planted: sqrt(2) * 0.003 * sqrt(1 - 0.5)
    shown = judge(study, results, planned).detectable  # the plan and the page say one number, at the verdicts' level
    assert shown is not None
    assert (seen.detectable, shown.seeds) == (pytest.approx(shown.difference), 3)
    assert shown.difference == pytest.approx(
        smallest_difference(3, seen.noise_sd, alpha=0.05 / 10, df=shown_df(judge(study, results, planned)))
    )


def shown_df(judgement) -> Df:
    """Degrees of freedom a seed of the noise of a typical pair."""
    values_KN = np.array([arm.values for arm in judgement.arms])
    return Df.of(measure_noise(values_KN).typical.df, values_KN.shape[1])
