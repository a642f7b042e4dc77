"""Names are data: whatever a question, setting, metric, arm or part is called, its figures are drawn. So with numbers."""

import json
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import planted
import pytest

import blueberry
from blueberry import report
from blueberry.report.charts import LIGHT, chart, drawable, layered, png, specification
from blueberry.report.figures import compute, file_name, page_figures, pictures, rate_names

NAMES = [
    "a\nb",
    "toString",
    "hasOwnProperty",
    'x\\":1,"y":warn("PWNED"),"z',
    "a\\",
    "a.b[0]",
    "\x1b[31mred\x01",
    "\ud800",
]


def judged(*, setting: str = "lr", metric: str = "val_loss", arms: tuple[Any, ...] = (0.01, 0.02, 0.04)) -> Any:
    rows = [
        {setting: value, "seed": seed, metric: 3 + 0.1 * place + 0.001 * (7 * seed + place) % 5}
        for place, value in enumerate(arms)
        for seed in range(3)
    ]
    return blueberry.analyse(rows, vary=setting, metric=metric)


def main_picture(**given: Any) -> bytes:
    return png(next(pictures(compute(judged(**given), ()))).spec)


def test_arms_of_every_name_can_be_drawn() -> None:
    assert main_picture(arms=tuple(NAMES)).startswith(b"\x89PNG")


@pytest.mark.parametrize("place", range(len(NAMES)))
def test_every_name_can_be_drawn(place: int) -> None:
    """As a setting, as a metric, and as title, subtitle and row."""
    setting, metric, name = (NAMES[(place + more) % len(NAMES)] for more in range(3))
    assert main_picture(setting=setting, metric=metric).startswith(b"\x89PNG")
    drawn = layered([chart([{"text": name}]).mark_point()], width=20, height=20)
    assert png(specification(drawn, LIGHT, title={"text": name, "subtitle": [name]})).startswith(b"\x89PNG")


def test_no_name_stands_in_a_field_or_an_expression() -> None:
    """Not only in those that are drawn above: in no figure of a sweep, a grid or a comparison."""
    for study in (planted.edge(), planted.grid(), planted.two_arms()):
        called = {*(arm.arm for arm in study.judgement.arms), *study.judgement.vary, study.judgement.metric}
        computed = compute(study.judgement, study.runs)
        shown = page_figures(computed)
        pages = [f.spec for f in (*shown.first, *shown.curves, shown.each_arm) if f is not None]
        specs = [*pages, *(picture.spec for picture in islice(pictures(computed), 6))]
        acted = {text for spec in specs for text in acted_on(spec)}
        assert "datum.arm === picked" in acted
        assert not any(name in text for text in acted for name in called)


def acted_on(value: Any, key: str = "") -> Iterator[str]:
    """Every string of a specification that Vega reads as a field or evaluates; also the titles of tooltips."""
    if isinstance(value, dict):
        for name, held in value.items():
            if name not in ("datasets", "config"):
                yield from acted_on(held, name)
    elif isinstance(value, list):
        for held in value:
            yield from acted_on(held, key)
            if key == "tooltip":
                yield held.get("title", "")
    elif isinstance(value, str) and key in (
        "field",
        "expr",
        "filter",
        "test",
        "labelExpr",
        "signal",
        "sort",
        "calculate",
    ):
        yield value


def test_what_xml_cannot_hold_is_replaced_and_nothing_else() -> None:
    assert drawable("a\x00b\x1bc\ud800d\ufffe") == "a\ufffdb\ufffdc\ufffdd\ufffd"
    assert drawable("tab\tline\nµ→∞ \U0001f600 \u202e") == "tab\tline\nµ→∞ \U0001f600 \u202e"


def test_a_whole_report_with_control_characters_in_every_name(tmp_path: Path) -> None:
    from blueberry.report import write

    found = judged(setting="\x1b[31mset\x00", metric="met\x01ric", arms=("a\x02\ud800", "toString", "c\x7f"))
    write(found.model_copy(update={"question": "\x1b[31mred?"}), (), tmp_path)
    for name in ("index.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "\x1b" not in text
        assert "\ufffd[31mred?" in text
    assert json.loads((tmp_path / "insights.json").read_text())["arms"][0]["arm"] == "a\x02\ud800"


def test_the_menu_and_the_chips_name_arms_exactly(tmp_path: Path) -> None:
    """A true minus for the eye would be another name."""
    from blueberry.report import write

    study = planted.Planted({"shift=-1": ({}, [4.3, 4.2]), "b": ({}, [4.1, 4.0])}, vary=())
    page = write(study.judgement, study.runs, tmp_path).read_text()
    assert 'data-arm="shift=-1"' in page
    assert '<option value="shift=-1"' in page


@pytest.mark.parametrize(
    "rates", [(0, 0.1, 1e308), (1e-320, 1.0, 1.7e308), (-1e308, 0, 1e308), (0.1, 1, math.inf), (1, 2, 10**25)]
)
def test_numbers_of_any_size_are_drawn_and_written(rates: tuple[float, ...], tmp_path: Path) -> None:
    from blueberry.report import write

    found = judged(arms=rates)
    for picture in islice(pictures(compute(found, ())), 1):
        assert png(picture.spec).startswith(b"\x89PNG")
    for _, text in report._documents(found, ()):
        json.loads(text)
    if rates[0] == 0:
        write(found, (), tmp_path)


def test_no_two_names_are_one_file_and_none_is_too_long() -> None:
    names = ["a b", "a_b", "a/b", "..", ".", "", "../a", "x" * 300, "x" * 299, "\ud800", "µ" * 200, "lr=0.01", ".a"]
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(names)
    assert "lr=0.01" in files
    for file in files:
        assert len(file.encode()) < 200
        assert "/" not in file
        assert not file.startswith(".")
    assert rate_names([0.1, 1e308])[1e308] == "1e+308"
