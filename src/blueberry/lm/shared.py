"""States that several runs pass through: left for the others, and taken up instead of training to there again.

What a study wants of them are folders by name (see `blueberry.identity`); whoever finds its own course among the
names leaves the state there, or begins there. A state has the form of a checkpoint and is checked like one.
"""

from dataclasses import dataclass, replace
from typing import Self

from blueberry.identity import SHARED_FOLDER, course, state_name, trunk_key, update_of
from blueberry.lm.checkpoint import Checkpoint, Checkpoints
from blueberry.recipe import Recipe


@dataclass(frozen=True)
class Shared:
    """The wanted states that one run passes through."""

    states: dict[int, Checkpoints]
    """By updates done there, each in a folder of its own."""
    build: str
    fingerprint: str
    """Of the run."""

    @classmethod
    def of(cls, recipe: Recipe, fingerprint: str, data_digest: str, checkpoints: Checkpoints) -> Self:
        """Those that are wanted now, below the folder of all checkpoints."""
        folder = checkpoints.folder / SHARED_FOLDER
        wanted = {path.name for path in folder.glob("*")}
        updates = {update for name in wanted if (update := update_of(name)) and update < recipe.num_updates}
        if not updates:
            return cls({}, checkpoints.build, fingerprint)
        trunk, own = trunk_key(recipe, data_digest), course(recipe)
        names = {update: state_name(trunk, recipe.seed, own, update) for update in sorted(updates)}
        mine = {update: name for update, name in names.items() if name in wanted}
        states = {update: Checkpoints(folder / name, checkpoints.build) for update, name in mine.items()}
        return cls(states, checkpoints.build, fingerprint)

    def updates(self) -> list[int]:
        """Where a state of this build lies; not yet verified."""
        return [update for update, state in self.states.items() if update in state.updates(self.build)]

    def load(self, update: int) -> Checkpoint | None:
        """The state after `update` updates as this run has it there; None if damaged or not there.

        One that the run has left itself, before it was interrupted, is nothing taken over.
        """
        found = self.states[update].load(self.build, update) if update in self.states else None
        if found is not None and found.recorded.pop("left_by") != self.fingerprint:
            found.recorded.update(shared_updates=update, shared_seconds=found.recorded["seconds"])
        return found

    def leave(self, checkpoint: Checkpoint) -> None:
        """Write a state, if it is still wanted and no sound one lies there. Raises: StoreError if the disk refuses."""
        state = self.states.get(checkpoint.update)
        if state is not None and state.folder.is_dir() and state.load(self.build, checkpoint.update) is None:
            recorded = {**checkpoint.recorded, "left_by": self.fingerprint}
            state.save(self.build, replace(checkpoint, recorded=recorded))
