"""Reports of studies made of parts and of ablations: the right numbers, and the files that each kind has."""

import json
import math
from dataclasses import replace

import pytest
from test_specifications import check

from blueberry import api
from blueberry.judge.judgement import CurveFinding
from blueberry.judge.studies import _warnings
from blueberry.proofread import Document, examine
from blueberry.report import search_documents
from blueberry.report.figures import compute, of_the_whole, page_figures, pictures
from blueberry.report.page import Page
from blueberry.report.searches import law_curve, sweeps, sweeps_caption
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

HEAD = 'question = "Which?"\nbase = "base.toml"\nmin_effect = 0.005\n'
SCHEDULES = """
[arms.linear]
"schedule.kind" = "linear"
[tune]
"optimizer.muon.learning_rate" = [0.01, 0.02, 0.04, 0.08]
[seeds]
search = 3
confirm = 3
"""
HORIZONS = """
[across]
"train.updates" = [50, 100, 200, 400]
[vary]
"optimizer.muon.learning_rate" = { log = [0.005, 0.5], points = 9 }
[seeds]
search = 3
confirm = 3
"""


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    made = {}

    def judged(text: str, trainer: Synthetic):
        if text not in made:
            folder = tmp_path_factory.mktemp("kind")
            (folder / "base.toml").write_text("[train]\nupdates = 200\n")
            (folder / "study.toml").write_text(HEAD + text)
            study = Study.load(folder / "study.toml")
            made[text] = api.conduct(study, store=folder / "store", trainer=trainer, workers=0)
        return made[text]

    return judged


@pytest.fixture
def schedules(judged):
    return judged(SCHEDULES, Synthetic(optimum=0.025, choices=(("schedule.kind", "linear", -0.02),)))


@pytest.fixture
def horizons(judged):
    return judged(HORIZONS, Synthetic(optimum=0.08, moves=(("train.updates", -0.3),)))


def test_a_report_of_searches_has_their_files(schedules, tmp_path):
    schedules.report(tmp_path)
    have = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {
        "figures/lr_search_comparison.png",
        "figures/learning_rate_curves.png",
        "figures/main_branch_comparison.png",
        "lr_search_results.json",
        "lr_recommendation.json",
        "results/linear/lr_0.0200.json",
    } <= have
    recommended = json.loads((tmp_path / "lr_recommendation.json").read_text())
    assert {name: one["learning_rate"] for name, one in recommended.items()} == {"baseline": 0.02, "linear": 0.02}
    rows = json.loads((tmp_path / "lr_search_results.json").read_text())["linear"]
    assert len(rows) == 4 * 3 + 3 + 3  # searching, comparing, and confirming the winner
    parts = {run["part"]: run["settings"] for run in json.loads((tmp_path / "results.json").read_text())["runs"]}
    assert parts["linear"]["schedule.kind"] == "linear"


def test_a_search_over_one_model_has_the_same_files(judged, tmp_path):
    text = '[vary]\n"optimizer.muon.learning_rate" = { log = [0.005, 0.5] }\n[strategy]\nmethod = "locate"\n'
    found = judged(text, Synthetic(optimum=0.03))
    found.report(tmp_path)
    recommended = json.loads((tmp_path / "lr_recommendation.json").read_text())
    assert recommended["supported"]
    assert {"optimizer.muon.learning_rate": recommended["learning_rate"]} == found.judgement.recommendation.settings
    assert recommended["coverage"][0]["decades"] == pytest.approx(2.0)
    rows = json.loads((tmp_path / "lr_search_results.json").read_text())
    assert len(rows) == len(found.runs)
    assert len(list((tmp_path / "results").glob("lr_*.json"))) == len({row["learning_rate"] for row in rows})
    main = (tmp_path / "figures" / "loss_vs_learning_rate.png").read_bytes()
    assert (tmp_path / "figures" / "lr_search_comparison.png").read_bytes() == main
    said = (tmp_path / "report.md").read_text()
    assert "loss_vs_learning_rate.png" in said
    assert "lr_search_comparison.png" not in said, "one picture is shown once"
    assert (tmp_path / "final_results.json").is_file()


def test_what_the_curves_of_a_part_warn_of_is_said_once(horizons):
    finding = CurveFinding(arm="x", finding="spikes", severity="warn", message="1 spike", n=1, seeds=(0,))
    parts = tuple(
        part.model_copy(update={"judgement": part.judgement.model_copy(update={"findings": (finding,)})})
        for part in horizons.judgement.parts
    )
    whole = horizons.judgement.model_copy(update={"parts": parts, "findings": _warnings(parts)})
    assert [fact.label for fact in Page(whole, horizons.runs).findings] == [f"{part.name}: x" for part in parts]


def test_a_rate_that_the_report_recommends_is_supported_in_the_file_too(judged):
    """A neighbour at the end that is not told apart is left open by the search, and costs what the fresh seeds show."""
    found = judged(
        SCHEDULES + "max = 9\n", Synthetic(optimum=0.05, noise_nats=0.03, choices=(("schedule.kind", "linear", -0.5),))
    )
    (linear,) = [part.judgement for part in found.judgement.parts if part.name == "linear"]
    assert [audit.audit for audit in linear.blocks] == ["edge"]
    chosen = found.judgement.recommendation.settings
    recommended = json.loads(dict(search_documents(found.judgement, found.runs))["lr_recommendation.json"])["linear"]
    assert recommended["supported"]
    assert recommended["learning_rate"] == chosen["optimizer.muon.learning_rate"] == 0.04
    assert recommended["open"] == f"edge: {linear.blocks[0].message}"


def test_an_arm_at_the_end_of_its_range_is_supported_nowhere(judged):
    text = SCHEDULES.replace("0.08]", "0.081]")
    found = judged(text, Synthetic(optimum=0.5, diverges_above=None))
    assert found.judgement.recommendation.withheld.startswith("edge: baseline and linear")
    for one in json.loads(dict(search_documents(found.judgement, found.runs))["lr_recommendation.json"]).values():
        assert not one["supported"]
        assert one["because"].startswith("edge: the best optimizer.muon.learning_rate, 0.081, is the largest tried")


def test_the_held_out_condition_is_drawn_at_its_own_size_in_whatever_order_a_file_has_them(horizons):
    assert horizons.judgement.laws[0].held_out.condition == "updates=400"
    backwards = horizons.judgement.model_copy(update={"parts": horizons.judgement.parts[::-1]})
    law = law_curve(backwards)
    assert law == law_curve(horizons.judgement)
    assert [point.x for point in law.points] == [50, 100, 200, 400]
    assert law.held_out.x == 400


def test_pictures_of_every_kind_are_valid_and_named_once(schedules, horizons):
    for found in (schedules, horizons):
        computed = compute(found.judgement, found.runs)
        drawn = list(pictures(computed))
        of_kind = page_figures(computed).first
        assert len({picture.name for picture in drawn}) == len(drawn)
        check([picture.spec for picture in drawn if "/individual/" not in picture.name])
        check([figure.spec for figure in of_kind])


def test_the_arms_of_a_tuned_study_are_drawn_from_their_fresh_seeds(schedules):
    runs = of_the_whole(schedules.judgement, schedules.runs)
    assert {run.arm for run in runs} == {"baseline", "linear"}
    searching = {run.seed for run in schedules.runs if run.stage == "search"}
    assert not {run.seed for run in runs} & searching
    assert sum(run.stage == "confirm" for run in runs) == 3


def test_losses_of_conditions_are_drawn_above_each_ones_own_best(horizons):
    shown = sweeps(horizons.judgement)
    assert shown is not None
    assert shown.above_best
    assert all(point.y == pytest.approx(0) for point in shown.points if point.is_best)
    assert sum(point.is_best for point in shown.points) == 4
    assert all(point.y > -1e-9 and math.isfinite(point.y) for point in shown.points)


def test_the_page_of_a_horizon_study_says_what_carries_over(horizons):
    shown = Page(horizons.judgement, horizons.runs)
    titles = ["What was measured", "Each part's own search", "What carries over", "Power laws"]
    assert [table.title for table in shown.tables] == titles
    assert {row.status_words for row in shown.rows} == {"not compared"}
    assert next(row[-1] for row in shown.tables[2].rows) == "is the best"
    names = {figure.name for figure in page_figures(compute(horizons.judgement, horizons.runs)).first}
    assert names == {"searches", "law"}


@pytest.mark.parametrize(("num", "said"), [(0, None), (1, "finite mean: 1 point."), (3, "finite mean: 3 points.")])
def test_what_a_picture_leaves_out_is_counted_in_points(horizons, num, said):
    caption = sweeps_caption(replace(sweeps(horizons.judgement), num_left_out=num))
    assert "arms" not in caption
    assert said in caption if said else "Not drawn" not in caption


def test_both_laws_stand_in_the_page_with_their_check(horizons):
    rows = next(table.rows for table in Page(horizons.judgement, horizons.runs).tables if table.title == "Power laws")
    of_rate, of_loss = horizons.judgement.laws
    assert [row[:2] for row in rows] == [("updates", "best learning rate"), ("updates", "validation loss")]
    for row, law in zip(rows, (of_rate, of_loss), strict=True):
        assert law.held_out is not None
        assert (row[4], float(row[6])) == ("updates=400", pytest.approx(law.held_out.measured, rel=1e-3))
        assert row[7] == ("yes" if law.held_out.holds else "no")


def test_the_noise_of_conditions_is_each_ones_own(horizons):
    facts = Page(horizons.judgement, horizons.runs).noise
    assert len(facts) == 4
    for fact, part in zip(facts, horizons.judgement.parts, strict=True):
        assert fact.label.startswith(part.name)
        assert float(fact.value.removesuffix(" nats")) == pytest.approx(part.judgement.noise.sd, abs=1e-5)
        assert f"from {part.judgement.noise.n} runs" in fact.remark
        assert "that 3 seeds can show" in fact.remark


def test_conditions_print_both_numbers_of_their_best_and_the_test_set(horizons):
    shown = Page(horizons.judgement, horizons.runs)
    assert shown.confirmed
    assert "over fresh seeds, which did not choose" in shown.measured
    for fact, part in zip(shown.confirmation, horizons.judgement.parts, strict=True):
        best = part.judgement.best
        assert best is not None
        assert best.test_mean is not None
        assert fact.label == f"{part.name}: {best.arm} on fresh seeds"
        assert fact.value.startswith(f"{best.mean:.4f} [")
        assert f"{best.search_mean:.4f} on the seeds that chose it" in fact.remark
        assert f"on the test set, the same runs: {best.test_mean:.4f}" in fact.remark


def test_conditions_without_fresh_seeds_are_called_unconfirmed(judged):
    text = HORIZONS.replace("confirm = 3", "confirm = 0").replace(", 200, 400]", "]")
    found = judged(text, Synthetic(optimum=0.05))
    shown = Page(found.judgement, found.runs)
    assert not shown.confirmed
    assert "the seeds that chose each condition's own best, which flatters it" in shown.measured
    assert {fact.value for fact in shown.confirmation} == {"not measured"}
    assert [audit.audit for audit in shown.warnings] == ["curse"]


def test_the_doctor_finds_nothing_in_the_report_of_conditions(horizons, tmp_path):
    horizons.report(tmp_path)
    assert not horizons.judgement.audits
    text = (tmp_path / "report.md").read_text()
    assert examine([Document.read("report.md", text)]) == ((), ())
    assert "Thick lines" not in text, "no condition is the best of them"


def test_a_race_within_parts_is_said(judged):
    text = HORIZONS.replace(", 200, 400]", "]") + 'max = 8\n[strategy]\nmethod = "race"\n'
    found = judged(text, Synthetic(optimum=0.05, noise_nats=0.001))
    paragraph = next(text for text in Page(found.judgement, found.runs).judged if "race" in text)
    assert "a race within each part, with looks planned at 3, 5 and 8 seeds" in paragraph
    for part in found.judgement.parts:
        assert part.judgement.ended == "settled"
        assert part.name in paragraph
    assert "every question settled after" in paragraph
