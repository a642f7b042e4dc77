import math
import pickle
import statistics

import pytest
from study_trainers import make_study

import blueberry
from blueberry.recipe import Recipe
from blueberry.records import Progress, RunResult
from blueberry.study.synthetic import Synthetic

RATE = "optimizer.muon.learning_rate"


def losses(trainer: Synthetic, rate: float, num_seeds: int) -> list[float]:
    recipe = Recipe().with_({RATE: rate, "train.updates": 2})
    results = [trainer.result(recipe.model_copy(update={"seed": seed})) for seed in range(num_seeds)]
    return [result.final.loss for result in results if result.final]


def test_the_valley_is_where_it_says() -> None:
    quiet = Synthetic(optimum=0.03, floor_nats=3.5, curvature_nats=0.1, right_over_left=3.0, noise_nats=0.0)
    assert losses(quiet, 0.03, 1) == [3.5]
    assert losses(quiet, 0.03 / math.e, 1) == [pytest.approx(3.6)]
    assert losses(quiet, 0.03 * math.e, 1) == [pytest.approx(3.8)]


def test_noise_has_the_stated_size_and_correlation() -> None:
    trainer = Synthetic(noise_nats=0.01, rho=0.6)
    a, b = losses(trainer, 0.02, 400), losses(trainer, 0.05, 400)
    assert statistics.stdev(a) == pytest.approx(0.01, rel=0.1)
    assert statistics.correlation(a, b) == pytest.approx(0.6, abs=0.08)
    assert statistics.mean(a) == pytest.approx(trainer.expected_nats(Recipe().with_({RATE: 0.02})), abs=0.0015)


def test_above_the_limit_runs_diverge() -> None:
    result = Synthetic(diverges_above=0.1).result(Recipe().with_({RATE: 0.2, "train.updates": 30}))
    assert result.status == "diverged"
    assert result.failure is not None
    assert (result.failure.kind, result.failure.update, result.num_updates) == ("diverged", 11, 11)
    assert (result.final, result.test, result.curve.train_loss[-1]) == (None, None, None)
    assert len(result.curve.train_loss) == len(result.curve.learning_rate) == len(result.curve.gradient_norm) == 11


def test_other_settings_can_matter() -> None:
    trainer = Synthetic(effects=(("model.dropout", 0.5),), noise_nats=0.0)
    better, worse = Recipe(), Recipe().with_(**{"model.dropout": 0.2})
    assert trainer.result(worse).metric("val_loss") == pytest.approx(trainer.result(better).metric("val_loss") + 0.1)


def test_a_result_is_a_function_of_the_recipe_and_not_of_its_company() -> None:
    recipes = [Recipe(seed=seed) for seed in range(3)]
    trainer = pickle.loads(pickle.dumps(Synthetic()))
    together = [message for message in trainer(recipes) if isinstance(message, RunResult)]
    assert together == [Synthetic().result(recipe) for recipe in recipes]


def test_evaluations_end_with_the_final_one_and_fall_to_it() -> None:
    result = Synthetic().result(Recipe().with_(**{"train.updates": 120}))
    assert [evaluation.update for evaluation in result.evaluations] == [50, 100, 120]
    assert result.evaluations[-1].validation == result.final
    seen = [evaluation.validation.loss for evaluation in result.evaluations]
    assert seen == sorted(seen, reverse=True)


def test_it_says_progress_while_it_pretends_to_train() -> None:
    messages = list(Synthetic(seconds_per_group=0.12)([Recipe(), Recipe(seed=1)]))
    said = [message for message in messages if isinstance(message, Progress)]
    assert len(said) >= 2
    assert len(said[0].fingerprints) == 2
    assert [message.fingerprint for message in messages if isinstance(message, RunResult)] == list(said[0].fingerprints)


def test_a_trainer_that_brings_its_own_data_can_be_handed_to_run(tmp_path):
    study = make_study(tmp_path)
    judgement = blueberry.run(study, store=tmp_path / "store", trainer=Synthetic(noise_nats=0.001), workers=0)
    assert judgement.best is not None
    assert judgement.cost.runs == len(study.arms) * study.seeds.search + study.seeds.confirm
