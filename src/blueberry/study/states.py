"""States that several runs share, on disk: who wants them, which lie there, and when they may go.

`FOLDER/STATE/` is there while somebody wants that state, and `wanted-by-FINGERPRINT` in it says who. Trainers look
there: a run that passes through a state somebody wants leaves it in `FOLDER/STATE/BUILD/`, and a run that is
about to train begins from the latest state of its own course that it finds. Names are made from content (see
`blueberry.identity`), so it does not matter which run, study or process left a state. Nothing here is needed for a
right number: where a state is missing or damaged, the run trains from the start.
"""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from blueberry.errors import StoreError

_WANTED_BY = "wanted-by-"


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
