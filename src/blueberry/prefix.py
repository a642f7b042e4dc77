"""How far runs that differ only in schedule and length are one and the same run. Pure.

Everything else that training draws on (weights, data order, dropout, bias correction, evaluations) is a function
of the seed and the update, so two such runs are in the same state, bitwise, as long as their rates agree.
"""

from array import array
from hashlib import sha256

from blueberry.identity import canonical_json, digest
from blueberry.recipe import Recipe
from blueberry.schedule_settings import PlateauSchedule
from blueberry.schedules import multipliers

SHARED_FOLDER = "shared"
"""Beside the checkpoints of runs: a folder for each state that is wanted, by its name."""
BYTES_PER_UPDATE = 8


def trunk_key(recipe: Recipe, data_digest: str) -> str:
    """Runs of one seed and one trunk key differ at most in schedule and length.

    The micro-batch is in it, though it is no part of a run's identity: it may move the rounding.
    """
    kept = {
        name: value
        for name, value in recipe.identity().items()
        if name not in ("seed", "train.updates") and not name.startswith("schedule.")
    }
    kept["train.micro_batch_sequences"] = recipe.micro_batch_sequences
    return digest("blueberry/trunk/1", canonical_json(kept), data_digest)


def course(recipe: Recipe) -> bytes:
    """What decides each update's rate, 8 bytes an update: the schedule's multiplier.

    Where evaluations may have cut the rate by then, a digest of the multiplier and of the rule that cuts it.
    """
    schedule, num_updates = recipe.schedule, recipe.num_updates
    heights = array("d", multipliers(schedule, num_updates))
    if not isinstance(schedule, PlateauSchedule):
        return heights.tobytes()
    # The first evaluation only sets a mark: no cut comes sooner than `patience` evaluations after it.
    fixed = recipe.evaluate.every_updates * (1 + schedule.patience_evaluations)
    rule = schedule.model_dump_json().encode()
    adapting = (sha256(rule + heights[u : u + 1].tobytes()).digest() for u in range(fixed, num_updates))
    return heights[:fixed].tobytes() + b"".join(one[:BYTES_PER_UPDATE] for one in adapting)


def common_updates(a: bytes, b: bytes) -> int:
    """After how many updates two courses still lead to the same state.

    At most one fewer than the shorter has: its last update is evaluated, whatever the other does there.
    """
    low, high = 0, min(len(a), len(b)) // BYTES_PER_UPDATE - 1
    while low < high:
        middle = (low + high + 1) // 2
        end = middle * BYTES_PER_UPDATE
        if a[:end] == b[:end]:
            low = middle
        else:
            high = middle - 1
    return low


def state_name(trunk: str, seed: int, course: bytes, update: int) -> str:
    """The name by content of the state after `update` updates: one name, one state, whichever run passes there."""
    return f"{update:06d}.{digest('blueberry/state/1', trunk, str(seed), course[: update * BYTES_PER_UPDATE])}"


def update_of(state: str) -> int | None:
    """The update in a state's name; None if it is no such name."""
    number = state.partition(".")[0]
    return int(number) if number.isdecimal() else None
