import numpy as np
import pytest

from bench.noise.__main__ import main
from bench.noise.analysis import pooled, rate_noise, replay, replay_null
from bench.noise.page import page
from bench.noise.table import COLUMNS, STUDIES, TABLE, Horizon, read_store, read_table, write_table
from blueberry.study.plan import plan
from blueberry.study.spec import Study
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic

RATES = (0.01, 0.02, 0.04, 0.08)


def horizon(gap=0.01, sd=0.01, rho=0.6, n=200, seed=0):
    rng = np.random.default_rng(seed)
    shared, own = rng.standard_normal((1, n)), rng.standard_normal((4, n))
    means = 4 + gap * np.abs(np.arange(4) - 1)
    losses_KN = means[:, None] + sd * (rho**0.5 * shared + (1 - rho) ** 0.5 * own)
    return Horizon(40, RATES, tuple(range(n)), losses_KN)


def test_noise_by_rate_and_pooled_finds_what_was_planted():
    found = rate_noise(horizon(n=2000))
    assert [one.sd for one in found] == pytest.approx([0.01] * 4, rel=0.06)
    assert found[1].rho is None
    assert [found[k].rho for k in (0, 2, 3)] == pytest.approx([0.6] * 3, abs=0.05)
    assert all(one.sd_interval[0] < one.sd < one.sd_interval[1] for one in found)
    assert found[0].rho_interval[0] < 0.6 < found[0].rho_interval[1]
    numbers = pooled(horizon(n=60))
    assert numbers["sd"].interval[0] < 0.01 < numbers["sd"].interval[1]
    assert numbers["rho"].interval[0] < 0.6 < numbers["rho"].interval[1]
    assert numbers["paired sd"].interval[0] < 0.01 * 0.8**0.5 < numbers["paired sd"].interval[1]


def test_replays_are_held_against_all_seeds():
    rng = np.random.default_rng(0)
    clear = replay(horizon(gap=0.5, n=30), 5, rng, subsets=30)
    assert (clear.winner, clear.false_winner, clear.best_kept, clear.least_mean_is_best) == (1, 0, 1, 1)
    hard = replay(horizon(gap=0.004, n=30), 3, rng, subsets=60)
    assert hard.winner < 0.5
    assert hard.least_mean_is_best < 1
    assert hard.regret > 0
    assert hard.winner + hard.tie + hard.inconclusive == pytest.approx(1)
    for gaussian in (False, True):
        assert replay_null(horizon(gap=0.5, n=30), 3, rng, gaussian=gaussian, subsets=60) < 12


def test_a_winner_that_all_seeds_contradict_is_false():
    losses_KN = np.full((2, 30), 4.0) + 0.001 * np.random.default_rng(1).standard_normal((2, 30))
    losses_KN[0, :3] -= 1.0  # on three seeds the first is better by far, on the others worse
    losses_KN[0, 3:] += 0.5
    told = replay(Horizon(40, RATES[:2], tuple(range(30)), losses_KN[:, :3]), 3, np.random.default_rng(0), subsets=2)
    assert told.false_winner == 0  # those three seeds alone are their own truth

    class First:
        def choice(self, *_, **__):
            return np.arange(3)

    told = replay(Horizon(40, RATES[:2], tuple(range(30)), losses_KN), 3, First(), subsets=2)
    assert (told.winner, told.false_winner, told.best_kept) == (1, 1, 0)


def test_the_shipped_table_is_whole_and_makes_the_page():
    horizons = read_table()
    assert len(horizons) >= 2
    for one in horizons:
        assert one.losses_KN.shape == (5, 30)
        assert not np.isnan(one.losses_KN).any()
    text = page(horizons, subsets=4)
    assert "| 40 | 0.12 | 30 | 0 | 4.55" in text
    assert "Real noise, nothing to find" in text


def test_a_store_becomes_the_table_and_unfinished_studies_are_left_out(tmp_path):
    source = TABLE.parent / "pico-40.toml"
    study = Study.load(source)
    runs = plan(study, Synthetic.data_digest, {}).runs
    trainer = Synthetic()
    with Store.open(tmp_path) as store:
        store.register(source, "pico-40", study.question, {run.fingerprint: "" for run in runs})
        store.register(tmp_path / "x.toml", "pico-80", "?", {runs[0].fingerprint: "", "0" * 16: ""})
        for run in runs:
            store.commit(trainer.result(run.recipe))
    rows = read_store(tmp_path)
    assert len(rows) == 150
    path = tmp_path / "table.csv"
    write_table(rows, path)
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    (one,) = read_table(path)
    assert (one.updates, len(one.seeds)) == (40, 30)
    assert one.losses_KN[0, 3] == pytest.approx(next(r["val_loss"] for r in rows if r["seed"] == 3), abs=1e-5)


def test_an_empty_store_leaves_the_table(tmp_path, capsys):
    before = TABLE.read_bytes()
    with Store.open(tmp_path):
        pass
    assert main(["--store", str(tmp_path)]) == 1
    assert STUDIES[0] in capsys.readouterr().err
    assert TABLE.read_bytes() == before
