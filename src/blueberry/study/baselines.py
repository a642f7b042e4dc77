"""`base = "ledger:NAME"`: the recipe that a study starts from, out of a store's ledger."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from blueberry.errors import StoreError, did_you_mean
from blueberry.recipe import Recipe
from blueberry.study.reading import refuse
from blueberry.study.store import Store

PREFIX = "ledger:"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}")
"""Of a line."""


@dataclass(frozen=True)
class Base:
    """What a study starts from."""

    recipe: Recipe
    line: str
    """The line of baselines that its winner would join, unless said otherwise."""
    entry: int | None = None
    """Number of the ledger's entry it is; None: a recipe file."""


def default_store() -> Path:
    """`BLUEBERRY_STORE`, else `.blueberry` in the current folder."""
    return Path(os.environ.get("BLUEBERRY_STORE") or ".blueberry")


def load_baseline(given: str, path: Path, store: Path | None) -> Base:
    """The newest baseline of a line; for a study file that has begun, the one it began from.

    `given` is "ledger:NAME", `path` the study file. Raises: StudyError if there is no such baseline.
    """
    folder, place, name = store or default_store(), f'{path} "base"', given.removeprefix(PREFIX)
    try:
        with Store.open(folder, create=False) as opened:
            rows, begun = opened.ledger(), opened.bases().get(str(path.absolute()))
    except StoreError as error:
        refuse(place, given, f"the ledger cannot be read ({error}); give the path of a recipe, or mend --store")
    own = [row for row in rows if row.line == name and row.recipe is not None]
    if not own:
        known = did_you_mean(name, {row.line for row in rows}) or "; its ledger is empty"
        refuse(place, given, f"{folder} has no such line of baselines{known}; blueberry promote begins one")
    row = next((row for row in own if begun is not None and row.number == begun.number), own[-1])
    assert row.recipe is not None
    return Base(Recipe.parse(row.recipe, place=f"{folder}: {given}, entry {row.number}"), name, row.number)
