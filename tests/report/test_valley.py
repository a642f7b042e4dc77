"""The report of a search along one axis: the valley in the picture, what it leaves of the runs, how the search ended."""

import re
from dataclasses import replace

import numpy as np
import pytest
from test_specifications import check

from blueberry import api
from blueberry.proofread import Document, examine
from blueberry.report.figures import compute, page_figures, pictures
from blueberry.report.lr_curve import curve_caption, lr_curve
from blueberry.report.page import Page, html, markdown
from blueberry.report.page_facts import search_in_short, search_sentences
from blueberry.report.searches import residuals, sweeps
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

HEAD = 'question = "Which?"\nbase = "base.toml"\n'
RATE = '"optimizer.muon.learning_rate" = { log = [0.004, 0.25] }\n'
LOCATE = '[strategy]\nmethod = "locate"\n'
SEEDS = "[seeds]\nsearch = 2\nconfirm = 3\nmax = 6\n"
STUDIES = {
    "located": (LOCATE + "[vary]\n" + RATE + SEEDS, Synthetic()),
    "spent": (LOCATE + "runs = 13\n[vary]\n" + RATE + SEEDS, Synthetic(noise_nats=0.05)),
    "cliff": (LOCATE + "[vary]\n" + RATE + SEEDS, Synthetic(optimum=0.05, diverges_above=0.07)),
    "linear": (LOCATE + '[vary]\n"optimizer.adamw.weight_decay" = { linear = [0.1, 0.9] }\n' + SEEDS, None),
    "parts": (LOCATE + '[arms.dense]\n"model.feed_forward.kind" = "swiglu"\n[tune]\n' + RATE + SEEDS, Synthetic()),
    "grid": ('[strategy]\nmethod = "grid"\n[vary]\n"optimizer.muon.learning_rate" = [0.01, 0.02, 0.04, 0.08, 0.16]\n'
             + SEEDS, Synthetic()),
}  # fmt: skip
LINEAR = Synthetic(setting="optimizer.adamw.weight_decay", optimum=0.4)


@pytest.fixture(scope="module")
def of(tmp_path_factory):
    made = {}

    def of(name: str):
        if name not in made:
            text, trainer = STUDIES[name]
            folder = tmp_path_factory.mktemp(name)
            (folder / "base.toml").write_text("[train]\nupdates = 200\n")
            (folder / "study.toml").write_text(HEAD + "min_effect = 0.01\n" + text)
            study = Study.load(folder / "study.toml")
            made[name] = api.conduct(study, store=folder / "store", trainer=trainer or LINEAR, workers=0)
        return made[name]

    return of


def both(judged) -> tuple[str, str]:
    """The page and its Markdown twin."""
    computed = compute(judged.judgement, judged.runs)
    shown = Page(judged.judgement, judged.runs)
    return html(shown, page_figures(computed), ["x.png"]), markdown(shown, list(pictures(computed)))


@pytest.mark.parametrize("name", ["located", "spent"])
def test_the_valley_is_drawn_where_it_is_in_the_picture(of, name):
    judgement = of(name).judgement
    curve = lr_curve(judgement)
    assert curve.y_range is not None
    assert judgement.valley is not None
    assert len(curve.valley) > 5
    assert set(curve.valley) <= {(at.value, at.expected) for at in judgement.valley.curve}
    assert all(curve.y_range[0] <= y <= curve.y_range[1] for _, y in curve.valley)
    assert curve.band == judgement.valley.interval
    said = curve_caption(curve)
    assert "The dashed line is the smooth valley that was fitted;" in said
    assert "holds the optimum, if the curve is one smooth valley" in said
    assert "not told apart" not in said
    assert "not drawn" not in said  # the recommended value is drawn from its fresh seeds


def test_a_valley_beyond_the_top_is_cut(of):
    judgement = of("located").judgement
    high = [
        at.model_copy(update={"expected": at.expected + 100 * (i == 0)}) for i, at in enumerate(judgement.valley.curve)
    ]
    cut = judgement.model_copy(update={"valley": judgement.valley.model_copy(update={"curve": tuple(high)})})
    assert len(lr_curve(cut).valley) == len(lr_curve(judgement).valley) - 1


def test_a_grid_that_has_a_valley_shows_it_but_is_no_search(of):
    judgement = of("grid").judgement
    curve = lr_curve(judgement)
    assert judgement.valley is not None
    assert curve.valley
    assert "if the curve is one smooth valley" not in curve_caption(curve)
    assert (residuals(judgement), search_sentences(judgement), search_in_short(judgement)) == (None, None, "")


@pytest.mark.parametrize("name", ["located", "spent"])
def test_residuals_are_every_run_of_the_window_with_seeds_taken_out(of, name):
    judgement = of(name).judgement
    shown = residuals(judgement)
    assert shown is not None
    low, high = shown.window
    inside = [
        arm for arm in judgement.arms if low * 0.999 < arm.settings["optimizer.muon.learning_rate"] < high * 1.001
    ]
    assert len(shown.points) + shown.num_alone == sum(arm.n for arm in inside)
    assert (min(p.x for p in shown.points), max(p.x for p in shown.points)) == pytest.approx((low, high), rel=1e-9)
    for seed in {point.seed for point in shown.points}:
        assert sum(point.value for point in shown.points if point.seed == seed) == pytest.approx(0, abs=1e-12)
    spread = float(np.sqrt(sum(point.value**2 for point in shown.points) / judgement.valley.df))
    assert 0.2 * shown.sd < spread < 2 * shown.sd
    assert [figure.path for figure in compute(judgement, ()).figures].count("figures/residuals.png") == 1


def test_a_seed_alone_in_the_window_has_no_residual(of):
    judgement = of("located").judgement
    arms = tuple(
        arm.model_copy(update={"seeds": (*arm.seeds, 99), "values": (*arm.values, 3.6)})
        if arm.arm.endswith("0.01886")
        else arm
        for arm in judgement.arms
    )
    assert any(99 in arm.seeds for arm in arms)
    shown = residuals(judgement.model_copy(update={"arms": arms}))
    assert shown is not None
    assert shown.num_alone == 1
    assert 99 not in {point.seed for point in shown.points}


@pytest.mark.parametrize("name", ["spent", "cliff", "parts"])
def test_every_picture_is_valid(of, name):
    """One that was located: test_a_linear_axis_has_all_of_it."""
    judged = of(name)
    drawn = list(pictures(compute(judged.judgement, judged.runs)))
    check([picture.spec for picture in drawn if "/individual/" not in picture.name])


def test_the_page_says_how_the_search_ended_and_what_it_rests_on(of):
    for text in both(of("located")):
        assert re.search(r"The search ended after \d+ runs on \d seeds: within 0\.01 nats of the best\.", text)
        assert "The valley was read from learning rate 0.0" in text
        assert re.search(r"each with the p-value of its lack of fit: .*two half-parabolas \(\d", text)
        assert re.search(r"One run lies 0\.\d+ nats from the curve \(sd", text)
        assert "Runs minus the fitted valley, seeds taken out" in text
        assert "best, between those searched" in text
        assert "Arms are compared" not in text
        assert "can show" not in text
        assert "read as one smooth valley" in text
        assert "Verdict" not in text
    for text in both(of("spent")):
        assert "The search ended after 13 runs on" in text
        assert "its runs are spent" in text


def test_a_broken_search_is_said_first_and_has_no_valley(of):
    judged = of("cliff")
    shown = Page(judged.judgement, judged.runs)
    assert shown.judgement.known.startswith("The runs are not one smooth valley (cliff)")
    assert shown.search is not None
    assert shown.search.endswith("the runs are not one smooth valley (cliff).")
    assert residuals(judged.judgement) is None
    for text in both(judged):
        assert "Runs minus the fitted valley" not in text
        assert "Arms are compared" in text


def test_models_that_nothing_repeated_tells_apart_are_not_called_fitting(of):
    judgement = of("located").judgement
    valley = judgement.valley
    untested = tuple(model.model_copy(update={"fit": 1.0}) for model in valley.models)
    rejected = (valley.models[0].model_copy(update={"fit": 0.001, "kept": False}), *valley.models[1:])
    said = [
        search_sentences(judgement.model_copy(update={"valley": valley.model_copy(update={"models": models})})) or ""
        for models in (untested, rejected)
    ]
    assert "Nothing says how well its models fit: quadratic" in said[0]
    assert "; left out: quadratic (0.001)" in said[1]


def test_a_linear_axis_has_all_of_it(of):
    judged = of("linear")
    assert judged.judgement.is_located
    assert residuals(judged.judgement) is not None
    drawn = list(pictures(compute(judged.judgement, judged.runs)))
    check([picture.spec for picture in drawn if "/individual/" not in picture.name])


def test_parts_that_were_searched_show_their_own_best_and_say_how_it_ended(of):
    judged = of("parts")
    shown = sweeps(judged.judgement)
    assert shown is not None
    for part in judged.judgement.parts:
        best = next(point for point in shown.points if point.is_best and point.part == part.name)
        assert best.y == part.judgement.best.search_mean
    table = next(table for table in Page(judged.judgement, judged.runs).tables if "own search" in table.title)
    assert table.header[-1] == "The search"
    assert all(
        re.match(r"costs at most 0\.\d+; within 0.01 nats of the best; \d+ runs on", row[-1]) for row in table.rows
    )
    assert any(
        "Within a part, the values about the best" in said for said in Page(judged.judgement, judged.runs).judged
    )


def test_ticks_stand_where_they_fit_on_an_uneven_axis(of):
    axis = lr_curve(of("located").judgement).axis
    assert not axis.is_even
    assert lr_curve(of("grid").judgement).axis.is_even
    assert not replace(axis, values=(0.01, 0.0101, 1.0)).is_even


def test_the_doctor_finds_nothing_in_the_report_of_a_search(of):
    assert not of("located").judgement.audits
    assert examine([Document.read("report.md", both(of("located"))[1])]) == ((), ())
