"""docs/studies.md against the code, both ways."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from blueberry import api
from blueberry.files import toml_value
from blueberry.recipe import setting_names
from blueberry.records import Goal
from blueberry.study.sections import KEYS, METRICS, SECTIONS, TEMPLATES, Method, Mode, Seeds, Strategy
from blueberry.study.spec import Study

REPOSITORY = Path(__file__).parent.parent
PAGE = (REPOSITORY / "docs" / "studies.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("<!-- keys -->")[2].partition("<!-- keys end -->")[0]
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TABLE.splitlines() if line.startswith("|")][2:]
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def documented(section: str) -> dict[str, str]:
    """Key to default, as the page has them."""
    name = f"`[{section}]`" if section else ""
    return {row[1].strip("`"): row[2].strip("`") for row in ROWS if row[0] == name and row[1]}


def test_every_section_and_key_is_there_and_no_other() -> None:
    assert {row[0].strip("`[]") for row in ROWS} - {""} == {*SECTIONS}
    assert [*documented("")] == [key for key in KEYS if key not in SECTIONS]
    assert set(KEYS) - set(documented("")) == {*SECTIONS}
    assert documented("combine") == {"mode": '"none"'}
    for section, record in (("seeds", Seeds), ("strategy", Strategy)):
        defaults = {
            name: "none" if field.default is None else toml_value(field.default)
            for name, field in record.model_fields.items()
        }
        assert documented(section) == defaults


def test_defaults_are_those_of_a_file_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("")
    given = {"question": "?", "base": "r.toml", "vary": {"model.dropout": [0.1, 0.2]}}
    study = Study.parse(given, tmp_path / "s.toml")
    for key in ("metric", "goal", "min_effect", "alpha"):
        assert documented("")[key] == toml_value(getattr(study, key))


def test_every_choice_is_named() -> None:
    said = {row[1].strip("`"): row[3] for row in ROWS}
    assert all(f"`{metric}`" in said["metric"] for metric in METRICS)
    assert all(goal in said["goal"] + documented("")["goal"] for goal in get_args(Goal))
    assert all(f"`{mode}`" in said["mode"] for mode in get_args(Mode))
    assert all(f"`{method}`" in said["method"] for method in get_args(Method))


def test_every_kind_has_an_example_and_no_other() -> None:
    kinds = PAGE.partition("## The kinds")[2].partition("## A changed file")[0]
    assert sorted(re.findall(r"^### (\w+)$", kinds, flags=re.MULTILINE)) == sorted(TEMPLATES)
    assert len(re.findall(r"^```toml$", kinds, flags=re.MULTILINE)) == len(TEMPLATES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: tomllib.loads(text)["question"][:30])
def test_every_example_plans(example: str, prepared: Path) -> None:
    study = Study.parse(tomllib.loads(example), REPOSITORY / "example.toml")
    assert api.foresee(study, prepared).runs_todo > 0


def test_every_setting_that_the_text_names_exists() -> None:
    named = set(re.findall(r"`((?:data|model|train|optimizer|schedule|evaluate)\.[\w.]+)`", PAGE))
    sections = {name.rpartition(".")[0] for name in setting_names()}
    sections |= {name.removesuffix(".NAME") for name in sections}
    assert named - setting_names() - sections == set()
