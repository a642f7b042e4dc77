"""How fast a machine is said to train, before its first run and after."""

from dataclasses import replace

import pytest
from study_trainers import Quick, Slow

from blueberry.architecture import cost
from blueberry.errors import TrainerError
from blueberry.lm.trainer import Trainer
from blueberry.recipe import Recipe
from blueberry.study.database import EndedRun
from blueberry.study.placement import STARTUP_SECONDS, Placement, Speed, speed_of_runs, timed, work
from blueberry.text.dataset import load

TINY = Recipe().with_(
    {
        "model.width": 16,
        "model.num_layers": 1,
        "model.context_tokens": 16,
        "data.corpus": "synthetic",
        "data.tokenizer": "byte",
        "data.max_documents": 200,
        "train.updates": 2_000,
        "evaluate.tokens": 64,
    }
)


def test_some_updates_are_timed_and_nothing_is_left_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr("blueberry.study.placement.TIMED_SECONDS", 0.2)
    monkeypatch.setattr("blueberry.study.placement.PATIENCE_SECONDS", 300.0)
    digest = load(TINY.data, tmp_path).digest
    before = sorted(tmp_path.rglob("*"))
    speed = timed(Trainer, TINY, tmp_path, digest, Placement(1))
    assert speed is not None
    assert speed.source == "updates"
    assert 1e4 < speed.flops_per_second < 1e12
    assert 0 < speed.startup_seconds < 60
    assert sorted(tmp_path.rglob("*")) == before


def test_runs_that_end_before_their_speed_is_known_tell_it_by_their_time(tmp_path):
    speed = timed(Quick, TINY, tmp_path, "text", Placement(2), 3)
    assert speed is not None
    flops = cost(TINY).num_flops
    assert speed.flops_per_second == pytest.approx(flops / 10), "the time of a lane is its share of its group's"


def test_a_machine_that_is_too_slow_or_fails_is_not_timed(tmp_path, monkeypatch):
    monkeypatch.setattr("blueberry.study.placement.PATIENCE_SECONDS", 1.0)
    assert timed(Slow, TINY, tmp_path, "text", Placement(1)) is None
    assert timed(Slow, TINY, tmp_path, "text", Placement(2)) is None
    large = TINY.with_({"train.batch_sequences": 1_000_000, "model.width": 512})
    assert timed(lambda folder: pytest.fail("it would train"), large, tmp_path, "text", Placement(1)) is None
    with pytest.raises(TrainerError):
        timed(lambda folder: lambda recipes: [], TINY, tmp_path, "text", Placement(1))


def test_runs_of_the_same_model_tell_the_speed_and_others_do_not():
    def ended(seconds: float | None, recipe: Recipe = TINY, **more) -> EndedRun:
        return EndedRun("completed", {"train_seconds": 1.0}, wall_seconds=seconds, recipe=recipe.flat(), **more)

    flops = work(TINY)
    past = [ended(10.0), ended(12.0), ended(100.0)]  # one began with the start-up of its worker
    assert speed_of_runs([TINY], past) == Speed(flops / 12, STARTUP_SECONDS, "runs")
    assert speed_of_runs([TINY.with_({"optimizer.muon.learning_rate": 0.5})], past) is not None
    assert speed_of_runs([TINY.with_({"model.width": 32})], past) is None
    assert speed_of_runs([TINY.with_({"train.batch_sequences": 4}), TINY], past) is not None
    assert speed_of_runs([TINY], [ended(None), replace(ended(1.0), status="diverged")]) is None
    assert speed_of_runs([TINY], [ended(6.0, own_fraction=0.5)]) == Speed(flops / 12, STARTUP_SECONDS, "runs")
    longer = TINY.with_({"train.updates": 4_000})
    assert speed_of_runs([TINY], [ended(10.0, longer)]) == Speed(work(longer) / 10, STARTUP_SECONDS, "runs")
