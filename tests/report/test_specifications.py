"""Every figure is valid Vega-Lite: the report itself does not stop to check."""

import json
from typing import Any

import altair as alt
import planted
import pytest

from blueberry.report.charts import DARK, LIGHT, PAGE, css_variables
from blueberry.report.figures import compute, page_figures, pictures, rate_names


def rows_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Every row of every data set."""
    return [row for rows in spec["datasets"].values() for row in rows]


KINDS = {"vconcat": alt.VConcatChart, "hconcat": alt.HConcatChart, "layer": alt.LayerChart}


def check(specs: list[dict[str, Any]]) -> None:
    """Hold each against the schema of its kind, in whole: to try every kind, as Altair does, takes ten times as long."""
    for spec in specs:
        kind = next((KINDS[key] for key in KINDS if key in spec), alt.Chart)
        few = {
            name: rows[:2] for name, rows in spec["datasets"].items()
        }  # every row would be validated, one like the other
        kind.validate({**spec, "datasets": few})
        json.dumps(spec, allow_nan=False)


@pytest.mark.parametrize("name", ["edge", "named", "all_diverged", "grid"])
def test_the_main_figure_is_valid(name: str) -> None:
    study = getattr(planted, name)()
    computed = compute(study.judgement, study.runs)
    check([next(pictures(computed)).spec])


def test_every_figure_of_a_sweep_is_valid(sweep: planted.Planted) -> None:
    computed = compute(sweep.judgement, sweep.runs)
    shown = page_figures(computed)
    listed = list(pictures(computed))
    check([f.spec for f in (*shown.first, *shown.curves, shown.each_arm) if f is not None])
    check([p.spec for p in listed if "/individual/" not in p.name] + [listed[-1].spec])


def test_the_chips_have_the_colours_of_the_lines(sweep: planted.Planted) -> None:
    shown = page_figures(compute(sweep.judgement, sweep.runs))
    scale = shown.curves[0].spec["layer"][0]["encoding"]["color"]["scale"]
    colours = dict(zip(scale["domain"], scale["range"], strict=True))
    assert {chip.arm: chip.colour for chip in shown.chips} == colours
    assert [chip.arm for chip in shown.chips if chip.forward] == list(sweep.judgement.unresolved)


def test_the_drawn_points_are_the_runs(sweep: planted.Planted) -> None:
    shown = page_figures(compute(sweep.judgement, sweep.runs))
    drawn = sorted(row["y"] for row in rows_of(shown.first[0].spec) if "seed" in row)
    finite = [v for arm in sweep.judgement.arms for v in arm.values if v < 10]
    assert drawn == pytest.approx(sorted(finite))


def test_each_colour_of_the_page_is_declared_in_both_schemes() -> None:
    for palette in (LIGHT, DARK):
        declared = css_variables(palette)
        used = [PAGE.ink, PAGE.muted, PAGE.grid, PAGE.surface, PAGE.accent, PAGE.other, PAGE.fresh, PAGE.failed]
        for colour in (*used, *PAGE.ramp, *PAGE.categories):
            assert f"{colour.removeprefix('var(').removesuffix(')')}: #" in declared


def test_rates_have_four_decimals_or_as_many_as_tell_them_apart() -> None:
    assert rate_names([0.065, 0.1]) == {0.065: "0.0650", 0.1: "0.1000"}
    assert rate_names([0.00001, 0.1]) == {0.00001: "0.00001", 0.1: "0.10000"}
    assert len(set(rate_names([0.00316, 0.00324]).values())) == 2
