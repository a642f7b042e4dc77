import math
from pathlib import Path

import numpy as np
import pytest

from blueberry.judge.forecast import family_of, forecast, noise_by_horizon, suggested_min_effect
from blueberry.recipe import Recipe
from blueberry.stats.noise import measure_noise
from blueberry.study.database import EndedRun
from blueberry.study.plan import plan
from blueberry.study.spec import Study
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic

RATE = "optimizer.muon.learning_rate"
BASE = Recipe().with_(**{"train.updates": 100})


def past(recipe, loss, *, data="d"):
    if math.isinf(loss):
        return EndedRun("diverged", {}, data_digest=data, recipe=recipe.flat())
    metrics = {"val_loss": loss, "val_bits_per_byte": loss / 2}
    return EndedRun("completed", metrics, data_digest=data, recipe=recipe.flat())


def history(values, base=BASE):
    return [
        past(base.with_(**{RATE: rate, "seed": seed}), loss)
        for rate, losses in values.items()
        for seed, loss in enumerate(losses)
    ]


VALUES = {0.02: [3.0, 3.2, 3.1], 0.04: [3.01, 3.25, 3.05], 0.08: [3.3, 3.4, math.inf]}


def test_a_family_pools_its_arms_as_a_study_does():
    (found,) = noise_by_horizon(history(VALUES), family_of(BASE), "val_loss").values()
    expected = measure_noise(np.array(list(VALUES.values())))
    assert (found.sd, found.rho, found.paired_sd, found.n) == (
        pytest.approx(expected.sd), pytest.approx(expected.rho), pytest.approx(expected.paired_sd), 6,
    )  # fmt: skip
    (bits,) = noise_by_horizon(history(VALUES), family_of(BASE), "val_bits_per_byte").values()
    assert bits.sd == pytest.approx(found.sd / 2)


def test_horizons_are_kept_apart_and_families_too():
    longer = history({0.02: [2.0, 2.1]}, BASE.with_(**{"train.updates": 200}))
    wider = history({0.02: [2.0, 9.0]}, BASE.with_(**{"model.width": 128}))
    by_tokens = history(
        {0.04: [2.0, 2.1]}, BASE.with_(**{"train.tokens": 200 * BASE.update_tokens, "train.updates": None})
    )
    found = noise_by_horizon([*history(VALUES), *longer, *wider, *by_tokens], family_of(BASE), "val_loss")
    assert [(num_updates, one.n) for num_updates, one in found.items()] == [(100, 6), (200, 4)]


def test_other_text_does_not_count_and_the_schedule_does_not_matter():
    other = [past(BASE.with_(seed=seed), 9.0 + seed, data="other") for seed in range(3)]
    linear = history({0.02: [3.0, 3.1]}, BASE.with_(**{"schedule.kind": "linear"}))
    (found,) = noise_by_horizon([*history(VALUES), *other, *linear], family_of(BASE), "val_loss", "d").values()
    assert found.n == 8
    assert noise_by_horizon(other[:1], family_of(BASE), "val_loss", "other") == {}


def test_half_the_noise_is_suggested_and_no_less_than_5_millinats():
    assert suggested_min_effect(0.03) == 0.015
    assert suggested_min_effect(0.001) == 0.005


@pytest.fixture
def study(tmp_path: Path) -> Study:
    (tmp_path / "r.toml").write_text(BASE.to_toml())
    text = f'question = "?"\nbase = "r.toml"\n[vary]\n"{RATE}" = [0.01, 0.03, 0.09]\n'
    (tmp_path / "lr.toml").write_text(text)
    return Study.load(tmp_path / "lr.toml")


def test_a_plan_without_runs_of_its_own_uses_the_family_and_says_so(study, tmp_path):
    planned = plan(study, Synthetic.data_digest, {})

    def seen(runs, results=None):
        return forecast(
            study, planned, results or {}, workers=1, lanes=1, speed=None, past_runs=runs
        )  # fmt: skip

    assert (seen(()).noise_source, seen(()).detectable, seen(()).suggested_min_effect) == (None, None, None)
    found = seen(history(VALUES))
    (noise,) = noise_by_horizon(history(VALUES), family_of(BASE), "val_loss").values()
    assert (found.noise_source, found.noise_sd, found.noise_n) == ("family", noise.paired_sd, 6)
    assert found.suggested_min_effect == suggested_min_effect(noise.sd)
    assert found.min_effect == 0.005
    assert seen(history(VALUES, BASE.with_(**{"train.updates": 50}))).noise_source is None
    results = {one.fingerprint: one for one in Synthetic()([run.recipe for run in planned.runs])}
    assert seen(history(VALUES), results).noise_source == "study"


def test_the_store_gives_what_the_registry_needs(tmp_path):
    results = [
        Synthetic().result(BASE.with_(**{"seed": seed, RATE: rate})) for seed in range(3) for rate in (0.02, 0.03)
    ]
    with Store.open(tmp_path) as store:
        for one in results:
            store.commit(one)
        runs = store.past_runs()
        assert len(store.past_runs(most=2)) == 2
    (found,) = noise_by_horizon(runs, family_of(BASE), "val_loss").values()
    assert found.n == 6
    assert found.paired_sd is not None
