"""docs/recipes.md against the code, both ways."""

import importlib.util
import re
from pathlib import Path
from typing import get_origin

import pytest

from blueberry.files import toml_value
from blueberry.recipe import Recipe, setting_names

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "recipes.md").read_text(encoding="utf-8")

specification = importlib.util.spec_from_file_location("write_recipes", DOCS / "write_recipes.py")
assert specification is not None
assert specification.loader is not None
write_recipes = importlib.util.module_from_spec(specification)
specification.loader.exec_module(write_recipes)

ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in PAGE.splitlines()
    if line.startswith("| `")
]


def _declared(section=Recipe, prefix=""):
    """(dotted name, default, unit) of every setting of every kind, read from the declarations."""
    for name, field in section.model_fields.items():
        kinds = write_recipes.sections_in(field.annotation)
        for kind in kinds:
            chosen = ".NAME" if get_origin(field.annotation) is dict else ""  # sections under names of the user's
            yield from _declared(kind, f"{prefix}{name}{chosen}.")
        if not kinds:
            default = "not given" if field.default in (None, {}) else f"`{toml_value(field.default)}`"
            chosen = ".NAME" if get_origin(field.annotation) is dict else ""
            yield prefix + name + chosen, default, (field.json_schema_extra or {}).get("unit", "")


def test_the_page_is_what_make_docs_writes():
    assert write_recipes.with_reference(PAGE) == PAGE, "run make docs"


def test_every_setting_is_there_with_its_default_and_unit_and_no_other():
    assert {row[0].strip("`") for row in ROWS} == setting_names()
    assert sorted(tuple(row[:3]) for row in ROWS) == sorted((f"`{name}`", *rest) for name, *rest in _declared())


def test_every_setting_says_what_it_means():
    assert [row[0] for row in ROWS if not row[4]] == []


def test_every_section_says_what_it_is():
    lines = PAGE.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("### `[") and not line.startswith("### `[optimizer]`"):  # only chooses what follows it
            assert lines[number + 2], line
            assert not lines[number + 2].startswith(("|", "#")), line


def test_defaults_are_those_of_a_resolved_recipe():
    documented = {row[0].strip("`"): row[1] for row in ROWS}
    resolved = Recipe().flat()
    del resolved["train.updates"]  # not given is 200, as the text says
    ambiguous = {name for name in resolved if sum(row[0] == f"`{name}`" for row in ROWS) > 1}  # by kind
    for name in resolved.keys() - ambiguous:
        value = resolved[name]
        assert documented[name] == ("not given" if value is None else f"`{toml_value(value)}`")
    assert "is 200 updates" in " ".join(PAGE.split())
    assert Recipe().num_updates == 200


@pytest.mark.parametrize(
    "page", sorted(path.name for path in DOCS.glob("*.md") if path.name in ("recipes.md", "export.md"))
)
def test_every_setting_that_the_text_names_exists(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    tops = "|".join(name for name in Recipe.model_fields if name != "seed")
    named = set(re.findall(rf"(?<![\w/.\"])((?:{tops})(?:\.(?:NAME|[a-z_0-9]+))+)(?=[`=,. ])", text))
    files = {name for name in named if name.endswith((".safetensors", ".json", ".py"))}
    sections = {name.rpartition(".")[0] for name in setting_names()}
    sections |= {name.removesuffix(".NAME") for name in sections}
    assert named - files - setting_names() - sections == set()
