"""States of runs between two updates, on disk: a run's own, to resume from, and those that it leaves for others to
begin from; written whole or not at all, checked before they are believed.

A checkpoint is `DIR/FINGERPRINT/update-000150.DIGEST.safetensors`: tensors of one lane, and what was recorded so
far as JSON in the header. The digest in the name is that of the file's bytes, so a torn or altered file is
recognised and the one before it is used. The two newest are kept.

States that several runs pass through are checkpoints too. What a study wants of them are folders by name (see
`blueberry.recipe`); whoever finds its own course among the names leaves the state there, or begins there instead
of training to there again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from blueberry.errors import StoreError
from blueberry.files import digest, refused_as, sweep, write_whole
from blueberry.recipe import SHARED_FOLDER, Recipe, course, state_name, trunk_key, update_of

NUM_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """One lane after `update` updates."""

    update: int
    tensors: dict[str, Tensor]
    """Weights and moments of this lane, without the lane axis."""
    recorded: dict[str, Any]
    """What was measured so far, as plain JSON."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints below one folder. `build` names what computes: another build's are not continued."""

    folder: Path
    build: str

    def save(self, fingerprint: str, checkpoint: Checkpoint) -> None:
        """Write, sync and rename; then drop all but the two newest.

        Raises: StoreError if the disk refuses.
        """
        header = {"recorded": json.dumps(checkpoint.recorded), "build": self.build, "update": str(checkpoint.update)}
        data = save_tensors(checkpoint.tensors, header)
        folder = self.folder / fingerprint
        path = folder / f"update-{checkpoint.update:06d}.{digest(data)}.safetensors"
        remedy = "a run must be able to save its state; free space there or choose another --store"
        with refused_as(StoreError, folder, "cannot write a checkpoint", remedy):
            sweep(folder)
            write_whole(path, data)
            for old in self._newest_first(fingerprint)[NUM_KEPT:]:
                old.unlink(missing_ok=True)

    def updates(self, fingerprint: str) -> list[int]:
        """The updates after which a checkpoint lies there, newest first; not yet verified."""
        return [_update_of(path) for path in self._newest_first(fingerprint)]

    def in_step(self, fingerprints: Sequence[str]) -> list[list[str]]:
        """The runs in parts that can go on together, each from an update that all of its runs have.

        A run that has saved once at most may as well begin anew: its group may have been stopped at its first saving.
        """
        parts: list[tuple[list[str], set[int]]] = []
        for name in fingerprints:
            updates = {*(saved := self.updates(name)), *([0] if len(saved) < NUM_KEPT else [])}
            for names, common in parts:
                if common & updates:
                    names.append(name)
                    common &= updates
                    break
            else:
                parts.append(([name], updates))
        return [names for names, _ in parts]

    def load(self, fingerprint: str, update: int) -> Checkpoint | None:
        """The checkpoint after `update`, or None if it is damaged, gone or another build's."""
        for path in self._newest_first(fingerprint):
            if _update_of(path) == update:
                try:
                    data = path.read_bytes()
                except OSError:
                    continue
                if digest(data) != path.name.split(".")[1]:
                    continue
                header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
                if header["build"] == self.build:
                    return Checkpoint(update, load_tensors(data), json.loads(header["recorded"]))
        return None

    def _newest_first(self, fingerprint: str) -> list[Path]:
        found = (self.folder / fingerprint).glob("update-*.safetensors")
        return sorted(found, key=lambda path: (_update_of(path), path.name), reverse=True)


def _update_of(path: Path) -> int:
    return int(path.name.removeprefix("update-").partition(".")[0])


@dataclass(frozen=True)
class Shared:
    """The wanted states that one run passes through."""

    states: dict[int, Checkpoints]
    """By updates done there, each in a folder of its own."""
    fingerprint: str
    """Of the run."""

    @classmethod
    def of(cls, recipe: Recipe, fingerprint: str, data_digest: str, checkpoints: Checkpoints) -> Self:
        """Those that are wanted now, below the folder of all checkpoints."""
        folder = checkpoints.folder / SHARED_FOLDER
        wanted = {path.name for path in folder.glob("*")}
        updates = {update for name in wanted if (update := update_of(name)) and update < recipe.num_updates}
        if not updates:
            return cls({}, fingerprint)
        trunk, own = trunk_key(recipe, data_digest), course(recipe)
        names = {update: state_name(trunk, recipe.seed, own, update) for update in sorted(updates)}
        mine = {update: folder / name for update, name in names.items() if name in wanted}
        return cls({update: Checkpoints(state, checkpoints.build) for update, state in mine.items()}, fingerprint)

    def updates(self) -> list[int]:
        """Where a state of this build lies; not yet verified."""
        return [update for update, state in self.states.items() if update in state.updates(state.build)]

    def load(self, update: int) -> Checkpoint | None:
        """The state after `update` updates as this run has it there; None if damaged or not there.

        One that the run has left itself, before it was interrupted, is nothing taken over.
        """
        state = self.states.get(update)
        found = state and state.load(state.build, update)
        if found is not None and found.recorded.pop("left_by") != self.fingerprint:
            found.recorded.update(shared_updates=update, shared_seconds=found.recorded["seconds"])
        return found

    def leave(self, checkpoint: Checkpoint) -> None:
        """Write a state, if it is still wanted and no sound one lies there. Raises: StoreError if the disk refuses."""
        state = self.states.get(checkpoint.update)
        if state is not None and state.folder.is_dir() and state.load(state.build, checkpoint.update) is None:
            recorded = {**checkpoint.recorded, "left_by": self.fingerprint}
            state.save(state.build, replace(checkpoint, recorded=recorded))
