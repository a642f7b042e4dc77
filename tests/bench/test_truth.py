import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from bench.truth.cells import CELLS, Cell, Gate
from bench.truth.customs import bootstrap, e_value, least_mean, parabola_covers, t_test
from bench.truth.draws import KINDS, SURFACES, Noise, arms_truth, draw_runs, sweep_truth
from bench.truth.gates import judge_gates
from bench.truth.page import page
from bench.truth.results import SOURCES, CellResult, Results, Tally, generator, source_digest, tally
from bench.truth.studies import STUDIES, evidence_of, judge_optimum, judge_verdicts, truth_of
from blueberry.judge.evidence import measure
from blueberry.judge.judgement import Bound, Optimum
from blueberry.judge.judging import weigh
from blueberry.judge.verdicts import compare
from blueberry.stats.optimum import Located, OneSided
from blueberry.study.plan import LOOKS

BY_NAME = {cell.name: cell for cell in CELLS}
REPLICATES = 30
SUBSET = (
    "null/5 arms, 3 seeds, rho 0.5",
    "null/8 arms, 3 seeds, growing",
    "tie/2 arms, 8 seeds, sd 0.005",
    "contrast/3 seeds, rho 0.5",
    "ablation/effects cancel, sd 0.005",
    "sweep/cliff",
    "race/2 arms, equal",
    "optimum/lopsided, right 3 times as steep, sd 0.005",
    "optimum/edge, sd 0.03",
    "optimum/two valleys, sd 0.0012",
)


def measured(cell: Cell, replicates: int) -> CellResult:
    return CellResult(replicates, "here", tally(STUDIES[cell.study](cell, generator(cell, 0), replicates)))


@pytest.fixture(scope="module")
def subset() -> dict[str, CellResult]:
    return {name: measured(BY_NAME[name], REPLICATES) for name in SUBSET}


def test_every_gate_holds_in_a_subset(subset):
    judged = judge_gates([BY_NAME[name] for name in SUBSET], subset)
    assert len(judged) > 20
    assert [(one.cell.name, one.gate.measure, one.tally.mean) for one in judged if not one.holds] == []


def test_the_habits_beside_it_fail_the_same_gates(subset):
    null = subset["null/5 arms, 3 seeds, rho 0.5"].tallies
    assert null["false winner, least mean"].mean == 1
    assert null["false winner, bootstrap"].mean > 0.3
    assert null["false winner, t-test"].mean > 0.1
    assert subset["tie/2 arms, 8 seeds, sd 0.005"].tallies["false tie, t-test"].mean > 0.1
    lopsided = subset["optimum/lopsided, right 3 times as steep, sd 0.005"].tallies
    assert lopsided["optimum covered, parabola"].mean < 0.5
    as_careless = CellResult(REPLICATES, "here", {"false winner": null["false winner, bootstrap"]})
    (one,) = judge_gates([BY_NAME["null/5 arms, 3 seeds, rho 0.5"]], {"null/5 arms, 3 seeds, rho 0.5": as_careless})
    assert not one.holds


def test_what_is_measured_is_what_weigh_says():
    cell = BY_NAME["optimum/cliff, sd 0.005"]
    rng = generator(cell, 7)
    truth = truth_of(cell, rng, 25)
    values_RKN = draw_runs(rng, truth.means_RK, cell.n, cell.noise)
    told = STUDIES["optimum"](cell, generator(cell, 7), 25)
    for r in range(25):
        evidence = evidence_of(cell, truth, values_RKN[r])
        judged = weigh(evidence)
        assert judged.verdicts == compare(measure(evidence))
        assert len(judged.unresolved) == told["unresolved"][r]
        if isinstance(judged.optimum, Optimum):
            low, high = judged.optimum.interval
            assert math.log(high / low) == pytest.approx(told["width"][r])
            covers = low <= math.exp(truth.optimum_R2[r, 0]) <= high
            assert covers == told["optimum covered"][r]
        else:
            assert isinstance(judged.optimum, Bound) == bool(told["bounded"][r])


def test_a_race_is_judged_by_the_seeds_that_it_used():
    cell = BY_NAME["race/9 rates, quadratic"]
    truth = truth_of(cell, generator(cell, 7), 6)
    values_RKN = draw_runs(np.random.default_rng(7), truth.means_RK, LOOKS[-1], cell.noise)
    for values_KN in values_RKN:
        whole = measure(evidence_of(cell, truth, values_KN, looks=LOOKS))
        assert whole.race is not None
        seen_KN = whole.race.tables[-1]
        assert np.isnan(seen_KN).any()
        evidence = evidence_of(cell, truth, seen_KN, looks=LOOKS)
        arms = [replace(arm, search={s: v for s, v in arm.search.items() if v == v}) for arm in evidence.arms]
        used = measure(replace(evidence, arms=tuple(arms)))
        assert compare(used) == compare(whole)
        assert (used.best, used.unresolved) == (whole.best, whole.unresolved)


def test_errors_of_verdicts_are_counted():
    cell = Cell("x", "x", "fixed", (), excess_nats=(0.0, 0.1, 0.2), num_arms=3, n=5, min_effect_nats=0.15)
    truth = arms_truth(1, np.array(cell.excess_nats))
    values_KN = truth.means_RK[0][:, None] + 1e-4 * np.random.default_rng(0).standard_normal((3, 5))
    judged = measure(evidence_of(cell, truth, values_KN))
    right = judge_verdicts(judged, compare(judged), np.array([0.0, 0.1, 0.2]))
    assert (right["false winner"], right["sign error"], right["settled"], right["winners"]) == (0, 0, 1, 1)
    opposite = judge_verdicts(judged, compare(judged), np.array([0.2, 0.1, 0.0]))
    assert (opposite["false winner"], opposite["sign error"], opposite["intervals cover"]) == (1, 1, 0)
    equal = judge_verdicts(judged, compare(judged), np.zeros(3))
    assert (equal["false winner"], equal["sign error"]) == (1, 0)
    assert math.isnan(equal["false tie"])
    tied = measure(evidence_of(cell, truth, values_KN - truth.means_RK[0][:, None]))
    assert judge_verdicts(tied, compare(tied), np.array([0.0, 0.1, 0.2]))["false tie"] == 1


def test_statements_on_the_optimum_are_held_against_it():
    at = np.array([1.0, 1.0])
    assert judge_optimum(Located(0.5, (0.0, 2.0)), at)["optimum covered"]
    assert not judge_optimum(Located(0.5, (0.0, 0.9)), at)["optimum covered"]
    assert judge_optimum(Located(0.5, (0.0, 0.9)), np.array([0.8, 1.2]))["optimum covered"]
    assert judge_optimum(OneSided(1.5, "below"), at)["optimum statement true"]
    assert not judge_optimum(OneSided(1.5, "above"), at)["optimum statement true"]
    assert "optimum covered" not in judge_optimum(None, at)


def test_draws_have_the_noise_they_say():
    rng = np.random.default_rng(0)
    means_RK = np.full((20_000, 3), 3.0)
    for rho in (0.0, 0.5, 0.9):
        values_RKN = draw_runs(rng, means_RK, 2, Noise(0.01, rho))
        assert values_RKN.std() == pytest.approx(0.01, rel=0.02)
        assert np.corrcoef(values_RKN[:, 0, 0], values_RKN[:, 2, 0])[0, 1] == pytest.approx(rho, abs=0.03)
        assert abs(np.corrcoef(values_RKN[:, 0, 0], values_RKN[:, 0, 1])[0, 1]) < 0.03
    growing = draw_runs(rng, means_RK, 2, Noise(0.01, kind="growing")).std(axis=(0, 2))
    assert growing[2] / growing[0] == pytest.approx(5, rel=0.05)
    diverged = draw_runs(rng, means_RK, 2, Noise(0.01, kind="divergences"))
    assert np.isinf(diverged).mean() == pytest.approx(0.05, abs=0.005)
    drift = draw_runs(rng, means_RK, 3, Noise(0.01, kind="drift")).mean(axis=(0, 1))
    assert np.diff(drift) == pytest.approx([-0.01, -0.01], abs=5e-4)
    assert {cell.noise.kind for cell in CELLS} == set(KINDS)


@pytest.mark.parametrize("surface", SURFACES)
def test_a_surface_is_least_at_its_optimum(surface):
    truth = sweep_truth(np.random.default_rng(1), 50, surface=surface, num_arms=13, curvature=0.03, right_over_left=2.0)
    nearest_R = np.argmin(np.abs(truth.x_K - truth.optimum_R2.mean(axis=1)[:, None]), axis=1)
    best_R = truth.means_RK.argmin(axis=1)
    assert (np.abs(nearest_R - best_R) <= 1).all()
    assert (truth.optimum_R2[:, 0] > truth.x_K[-1]).all() == (surface == "edge")
    assert np.isinf(truth.means_RK).any() == (surface == "cliff")


def test_habits_by_hand():
    values_RKN = np.array([[[1.0, 1.2, 1.1], [1.5, 1.7, 1.6], [1.2, 1.0, 1.6], [9.0, 9.0, np.inf]]])
    nan = math.nan
    np.testing.assert_array_equal(least_mean(values_RKN, 0.05), [[nan, 1, 1, nan]])
    np.testing.assert_array_equal(t_test(values_RKN, 0.05), [[nan, 1, 0, nan]])
    np.testing.assert_array_equal(bootstrap(values_RKN, 0.05), [[nan, 1, 0, nan]])
    x_K = np.array([-1.0, 0.0, 1.0, 2.0])
    parabola_RKN = ((x_K[:, None] - np.array([0.4, 0.5, 0.6])) ** 2)[None]
    assert parabola_covers(x_K, parabola_RKN, np.array([[0.5, 0.5]]), 0.05)[0] == 1
    assert parabola_covers(x_K, parabola_RKN, np.array([[0.8, 0.8]]), 0.05)[0] == 0


def test_the_e_value_is_the_mixture_of_t_likelihoods():
    values = np.array([0.3, 0.9, -0.2, 0.7, 0.5])
    t = values.mean() / values.std(ddof=1) * 5**0.5
    mixed = integrate.quad(lambda d: stats.nct.pdf(t, 4, d * 5**0.5) * stats.norm.pdf(d), -6, 6)[0]
    assert e_value(values) == pytest.approx(mixed / stats.t.pdf(t, 4), rel=1e-6)
    assert e_value(np.array([0.1])) == e_value(np.zeros(3)) == 1
    assert e_value(np.array([0.1, 0.1])) == math.inf


def test_measuring_resumes_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("bench.truth.results.CHUNK", 4)
    cells = [BY_NAME["contrast/3 seeds, rho 0"], BY_NAME["optimum/plateau, sd 0.03"]]
    once, twice = Results(tmp_path / "once.json"), Results(tmp_path / "twice.json")
    once.measure(cells, 8)
    twice.measure(cells, 3)
    twice = Results(tmp_path / "twice.json")
    assert {result.replicates for result in twice.cells.values()} == {4}
    twice.measure(cells, 8)
    assert json.loads(once.path.read_text()) == json.loads(twice.path.read_text())
    capsys.readouterr()
    twice.measure(cells, 8)
    assert capsys.readouterr().err == ""  # nothing was missing
    assert json.loads(once.path.read_text()) == json.loads(twice.path.read_text())


def test_the_digest_of_the_code_is_blind_to_words(tmp_path, monkeypatch):
    package = tmp_path / "blueberry"
    (package / "judge" / "audits").mkdir(parents=True)
    (package / "stats").mkdir()
    monkeypatch.setattr("blueberry.__file__", str(package / "__init__.py"))
    monkeypatch.setattr("bench.truth.results.SOURCES", {"one": ("stats", "judge")})
    (package / "judge" / "audits" / "b.py").write_text("B = 1\n")
    digests = []
    for text in (
        'def f():\n    """One."""\n    return 1\n',
        "def f():\n    # two\n    return 1\n",
        "def f(): return 2\n",
    ):
        (package / "stats" / "a.py").write_text(text)
        digests.append(source_digest("one"))
    (package / "judge" / "audits" / "b.py").write_text("B = 2\n")
    digests.append(source_digest("one"))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_cell_of_other_sources_is_kept_if_it_comes_out_the_same_and_else_measured_anew(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("bench.truth.results.CHUNK", 4)
    cells = [BY_NAME["contrast/3 seeds, rho 0"], BY_NAME["contrast/3 seeds, rho 0.5"]]
    results = Results(tmp_path / "results.json")
    results.measure(cells, 8)
    now = json.loads(results.path.read_text())
    capsys.readouterr()
    for cell in cells:
        results.cells[cell.name].sources = "other"
    changed = results.cells[cells[1].name]
    changed.first = changed.first | {"regret": changed.first["regret"] + Tally(0, 0.1, 0.0)}
    results.measure(cells, 8)
    told = capsys.readouterr().err
    assert (told.count(cells[0].name + ":"), told.count(cells[1].name + ":")) == (0, 2)
    assert json.loads(results.path.read_text()) == now


@pytest.mark.parametrize(
    ("gate", "hits", "holds"),
    [
        (Gate("m", "at most", 0.05), 530, True),
        (Gate("m", "at most", 0.05), 620, False),
        (Gate("m", "at least", 0.95), 9470, True),
        (Gate("m", "at least", 0.95), 9380, False),
        (Gate("m", "between", 0.93, 0.97), 9290, True),
        (Gate("m", "between", 0.93, 0.97), 9780, False),
        (Gate("m", "between", 0.93, 0.97), 9180, False),
    ],
)
def test_gates_are_judged_by_their_counts(gate, hits, holds):
    cell = Cell("c", "nulls", "fixed", (gate,))
    (one,) = judge_gates([cell], {"c": CellResult(10_000, "here", {"m": Tally(10_000, hits, hits)})})
    assert one.holds == holds


def test_the_page_tells_what_fails_and_how_many_replicates_were_run(subset, tmp_path):
    results = Results(tmp_path / "none.json")
    results.cells = dict(subset)
    text = page(CELLS, results)
    assert "## What does not hold" not in text
    assert f"| at most 5% | 7 | {REPLICATES} | holds" in text
    assert f"| 5 arms, 3 seeds, rho 0.5 | {REPLICATES} |" in text
    assert f"in {len(SUBSET)} of {len(CELLS)} cells" in text
    bad = CellResult(10_000, "here", {"false winner": Tally(10_000, 900, 900)})
    results.cells["null/2 arms, 3 seeds, drift"] = bad
    text = page(CELLS, results)
    assert "## What does not hold\n\n- null/2 arms, 3 seeds, drift: false winners 9.0%" in text
    assert "| 2 arms, 3 seeds, drift | 10,000 | **9.0%** |" in text
    assert f"| at most 5% | 8 | {REPLICATES} to 10,000 | **fails in 1**" in text
    results.cells["null/2 arms, 3 seeds, drift"] = CellResult(500, "here", {"false winner": Tally(500, 36, 36)})
    text = page(CELLS, results)
    assert "## What does not hold" not in text
    assert "## What is in doubt\n\n- null/2 arms, 3 seeds, drift: false winners 7.2%" in text


def test_cells_are_told_apart_and_known():
    assert len(BY_NAME) == len(CELLS)
    assert {cell.study for cell in CELLS} <= set(SOURCES) <= set(STUDIES)
