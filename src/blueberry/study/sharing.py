"""Which runs can begin where another run has been, so that no update is trained twice (prefix sharing); and asking for
the states they begin from, which `lm/checkpoint.py` leaves.

`FOLDER/STATE/` is there while somebody wants that state, and `wanted-by-FINGERPRINT` in it says who. Trainers look
there: a run that passes through a state somebody wants leaves it in `FOLDER/STATE/BUILD/`, and a run that is
about to train begins from the latest state of its own course that it finds. Names are made from content (see
`blueberry.recipe`), so it does not matter which run, study or process left a state. Nothing here is needed for a
right number: where a state is missing or damaged, the run trains from the start.
"""

import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blueberry.errors import StoreError
from blueberry.recipe import common_updates, course, state_name, trunk_key
from blueberry.study.arms import Run

LEAST_UPDATES = 10
"""In common, below which a run trains them itself. Writing, syncing, reading and checking a state takes a fifth of an
update of the nano recipes on a CPU, but several where updates are fast and models large."""
_WANTED_BY = "wanted-by-"


@dataclass(frozen=True)
class Fork:
    """Where a run leaves the way of another."""

    parent: str
    """Fingerprint of a run that passes through the state."""
    update: int
    """Updates done there."""
    state: str
    """Its name by content."""


def forks(groups: Iterable[Sequence[Run]], most_updates: int | None = None) -> dict[str, Fork]:
    """Where each run can begin, by fingerprint; a run that is not in it begins at the start.

    To know takes some microseconds for each update of each arm. `most_updates` of them are looked at; where there are
    more, the answer is that all begin at the start.

    `groups` are trained side by side, so all lanes of one begin at the same update, or at the start. The longest
    run of its kind is the trunk. Every other forks as late as it can from the runs placed before it: then each
    stretch of updates that several have in common is trained once, whatever the order. A fork's parent is always
    placed before it, so nobody ever waits in a circle.
    """
    longest_first = sorted(groups, key=lambda group: -group[0].recipe.num_updates)
    if len({(run.recipe.schedule, run.recipe.num_updates) for group in longest_first for run in group}) < 2:
        return {}
    arms = {(run.part, run.arm): run.recipe.num_updates for group in longest_first for run in group}
    if most_updates is not None and sum(arms.values()) > most_updates:
        return {}
    ways: dict[tuple[str, str], tuple[str, bytes]] = {}
    """By part and arm: trunk key and course."""
    placed: dict[tuple[str, int], list[tuple[bytes, str]]] = {}
    """By trunk key and seed, in order of their bytes: whoever agrees longest with a course stands next to it."""
    found: dict[str, Fork] = {}
    for group in longest_first:
        for run in group:
            if (run.part, run.arm) not in ways:
                ways[run.part, run.arm] = trunk_key(run.recipe, run.data_digest), course(run.recipe)
        own = [ways[run.part, run.arm] for run in group]
        nearest = [
            _nearest(way, placed.get((trunk, run.seed), [])) for run, (trunk, way) in zip(group, own, strict=True)
        ]
        update = min(common for common, _ in nearest)
        for run, (trunk, way), (_, parent) in zip(group, own, nearest, strict=True):
            if update >= LEAST_UPDATES:
                while parent in found and found[parent].update >= update:  # it begins there or later itself
                    parent = found[parent].parent
                state = state_name(trunk, run.seed, way, update)
                found[run.fingerprint] = Fork(parent, update, state)
        for run, (trunk, way) in zip(group, own, strict=True):  # only now: lanes of one group advance together
            others = placed.setdefault((trunk, run.seed), [])
            entry = (way, run.fingerprint)
            others.insert(bisect_left(others, entry), entry)
    return found


def _nearest(own: bytes, others: Sequence[tuple[bytes, str]]) -> tuple[int, str]:
    """How many updates the nearest of the others has in common with this course, and who it is."""
    at = bisect_left(others, (own, ""))
    return max(((common_updates(own, other), name) for other, name in others[max(at - 1, 0) : at + 1]), default=(0, ""))


@dataclass(frozen=True)
class States:
    """The shared states of one store."""

    folder: Path

    def want(self, state: str, fingerprint: str) -> None:
        """Ask whoever passes through a state to leave it for this run. Raises: StoreError if the disk refuses."""
        path = self.folder / state / f"{_WANTED_BY}{fingerprint}"
        for _ in range(3):  # another driver may forget the folder between our two steps
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                return
            except FileNotFoundError:
                continue
            except OSError as cause:
                raise StoreError(
                    f"{path.parent}: {cause.strerror}; a store needs a folder it can write to; mend --store"
                ) from None

    def lies(self, state: str) -> bool:
        """Whether somebody has left it; not yet verified."""
        return any((self.folder / state).glob("*/update-*.safetensors"))

    def forget(self, state: str, fingerprint: str) -> None:
        """This run wants it no more. The last one to say so removes the state."""
        folder = self.folder / state
        (folder / f"{_WANTED_BY}{fingerprint}").unlink(missing_ok=True)
        if not any(folder.glob(f"{_WANTED_BY}*")):
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, ended: Callable[[Iterable[str]], Iterable[str]]) -> None:
        """Forget what runs wanted that have ended, which `ended` picks out of some, and remove what nobody wants."""
        wanted = [(folder.name, wish) for folder in self.folder.glob("*") for wish in _wishes(folder)]
        gone = set(ended({wish for _, wish in wanted if wish}))
        for state, wish in wanted:
            if wish in gone or not wish:
                self.forget(state, wish)


def _wishes(folder: Path) -> list[str]:
    """Who wants a state; one empty name if nobody does."""
    return [path.name.removeprefix(_WANTED_BY) for path in folder.glob(f"{_WANTED_BY}*")] or [""]
