"""What a trainer has to say to a person comes through, however fast it goes on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from study_trainers import make_study

from blueberry.recipe import Recipe
from blueberry.records import Progress, RunResult
from blueberry.study import engine
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic


@dataclass(frozen=True)
class Talks:
    """Says the same note in every group, between progress that comes too fast to be passed on."""

    def __call__(self, recipes: Sequence[Recipe]) -> Iterator[RunResult | Progress]:
        results = [Synthetic().result(recipe) for recipe in recipes]
        names = tuple(result.fingerprint for result in results)
        for note in (None, "out of memory", None, f"seed {recipes[0].seed}"):
            yield Progress(fingerprints=names, update=1, num_updates=6, note=note)
        yield from results


@pytest.mark.parametrize("workers", [0, 1])
def test_every_note_reaches_the_watcher(tmp_path: Path, workers: int) -> None:
    heard: dict[str, None] = {}
    with Store.open(tmp_path / "store") as store:
        engine.run(
            make_study(tmp_path),
            data_digest=Synthetic.data_digest,
            store=store,
            trainer=Talks(),
            workers=workers,
            on_event=lambda snapshot: heard.update(dict.fromkeys(snapshot.notes)),
        )
    assert {"out of memory", "seed 0"} <= set(heard)
    assert len(heard) >= 3  # the confirming round's too
