"""Writes the reference part of docs/recipes.md from the code that declares the settings. `make docs` runs it."""

import inspect
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from blueberry.errors import is_table, sections_in
from blueberry.files import toml_value
from blueberry.recipe import Recipe
from blueberry.settings import Section

PAGE = Path(__file__).parent / "recipes.md"
BEGIN, END = "<!-- settings: written by make docs -->", "<!-- settings: end -->"
BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "multiple_of": "multiple of"}
MARKS = {"per_lane": "lane", "memory_only": "memory"}


def render() -> str:
    """Every section with its docstring, and a table of its settings; kinds of one section one after the other."""
    return "\n".join(_section(Recipe, "", None)).strip() + "\n"


def with_reference(page: str) -> str:
    """The page with the part between its marks written anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert END in rest, f"{PAGE} must hold {BEGIN} and {END}"
    return f"{before}{BEGIN}\n{render()}{END}{after}"


def _section(section: type[Section], prefix: str, default_kind: str | None) -> list[str]:
    kind = section.model_fields["kind"].default if "kind" in section.model_fields else None
    heading = f"`[{prefix.rstrip('.')}]`" if prefix else "Outside of any section"
    if kind is not None:
        heading += f" with `kind = {toml_value(kind)}`" + (" (default)" if kind == default_kind else "")
    inner, rows = [], []
    for name, field in section.model_fields.items():
        kinds = sections_in(field.annotation)
        for inside in kinds:
            named = f"{prefix}{name}.NAME." if is_table(field.annotation) else f"{prefix}{name}."
            inner += _section(inside, named, getattr(field.default, "kind", None))
        if not kinds:
            named = f"{prefix}{name}.NAME" if is_table(field.annotation) else f"{prefix}{name}"
            rows.append(_row(named, field))
    said = " ".join(inspect.cleandoc(section.__doc__ or "").split()) if section.__doc__ else ""
    table = ["| setting | default | unit | allowed | meaning | |", "|---|---|---|---|---|---|", *rows]
    return [f"### {heading}", "", *([said, ""] if said else []), *([*table, ""] if rows else []), *inner]


def _row(name: str, field: FieldInfo) -> str:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    marks = ", ".join(said for mark, said in MARKS.items() if extra.get(mark))
    meaning = field.description or ("which kind this is" if name.endswith("kind") else "")
    cells = [f"`{name}`", _default(field), str(extra.get("unit", "")), _allowed(field), meaning, marks]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(field: FieldInfo) -> str:
    if field.default is None or field.default == {}:
        return "not given"
    if field.default is PydanticUndefined:
        return "must be given"
    return f"`{toml_value(field.default)}`"


def _allowed(field: FieldInfo) -> str:
    choices = [f"`{toml_value(choice)}`" for choice in _choices(field.annotation)]
    bounds = [
        f"{sign} {getattr(part, name)}"
        for part in field.metadata
        for name, sign in BOUNDS.items()
        if hasattr(part, name)
    ]
    return ", ".join(choices or bounds)


def _choices(annotation: Any) -> list[Any]:
    if annotation is bool:
        return [False, True]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in _choices(part)]


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
