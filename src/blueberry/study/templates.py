"""The commented study files that `blueberry new` writes: `templates/KIND.toml` of this package, each one that loads."""

import os
from pathlib import Path

import blueberry
from blueberry.errors import StudyError, did_you_mean
from blueberry.files import refused_as, toml_value
from blueberry.recipe import Recipe, recipe_path

_FOLDER = Path(blueberry.__file__).parent / "templates"
TEMPLATES = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))
"""The kinds there are."""
DEFAULT_BASE = "moe-nano"


def study_file(kind: str, base: str) -> str:
    """A study file of a kind over a recipe: a path relative to the file, or the name of one that comes with Blueberry.

    Raises: StudyError if there is no such kind.
    """
    if kind not in TEMPLATES:
        raise StudyError(f"new: {kind!r}; no such kind of study{did_you_mean(kind, TEMPLATES)}")
    template = (_FOLDER / f"{kind}.toml").read_text(encoding="utf-8")
    own = f"base       = {toml_value(DEFAULT_BASE)} "
    assert own in template
    return template.replace(own, f"base       = {toml_value(base)} ", 1)


def write_study_file(kind: str, base: str | Path, path: Path) -> Path:
    """Write a study file of a kind at `path`, over the recipe `base`; returns `path`.

    Raises: StudyError if there is no such kind, if `path` exists or cannot be written; RecipeError if `base`
    is no recipe.
    """
    found = recipe_path(base)
    Recipe.load(found)
    is_name = str(base) == found.stem
    text = study_file(kind, str(base) if is_name else os.path.relpath(base, path.parent).replace(os.sep, "/"))
    if os.path.lexists(path):
        raise StudyError(f"{path}: exists already; nothing is overwritten; choose another name with -o")
    with (
        refused_as(StudyError, path, "cannot be written", "a study file must be; choose another place with -o"),
        path.open("x", encoding="utf-8") as file,
    ):
        file.write(text)
    return path
