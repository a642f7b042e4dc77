"""Names made from content: two runs are the same when, and only when, their digests are; and how far two are one.

Everything that training draws on but the rate (weights, data order, dropout, bias correction, evaluations) is a
function of the seed and the update. So two runs that differ only in schedule and length are in the same state,
bitwise, as long as their rates agree, and may share what was trained until then. Pure.
"""

import hashlib
import json
from array import array
from collections.abc import Iterable
from typing import Any

from blueberry.recipe import Recipe
from blueberry.schedules import PlateauSchedule, multipliers

DIGEST_CHARACTERS = 16
NUMERICS = "2"
"""Of the built-in trainer. Whoever changes the numbers that a recipe gives changes it: the digest of a text has it, so
that runs before and after have different names and no store mixes them. 2: norms are not decayed, a hash is two draws.
"""
_HOLE = "\0seed\0"
"""Where a seed goes. No name or path has a zero byte."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and shortest round-trip floats.

    Raises: ValueError on NaN or infinity, TypeError on what JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(*parts: str | bytes) -> str:
    """The first 16 hexadecimal characters of SHA-256 over the parts, each preceded by its length."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()[:DIGEST_CHARACTERS]


def fingerprint(recipe: Recipe, data_digest: str) -> str:
    """The name of the run that this recipe describes: a digest of everything that decides its numbers.

    `data_digest` names the corpus, its split and its tokenizer by content (or the command of a trainer
    that brings its own data). Paths, machine, worker count and memory-only settings do not enter.
    """
    return digest("blueberry/run/1", canonical_json(recipe.identity()), data_digest)


def fingerprints(recipe: Recipe, data_digest: str, seeds: Iterable[int]) -> tuple[str, ...]:
    """`fingerprint` of the recipe on each of these seeds. All its other settings are looked at once."""
    before, hole, after = canonical_json({**recipe.identity(), "seed": _HOLE}).partition(canonical_json(_HOLE))
    assert hole, "a seed is part of what decides the numbers"
    return tuple(digest("blueberry/run/1", f"{before}{seed}{after}", data_digest) for seed in seeds)


def shape_key(recipe: Recipe, data_digest: str) -> str:
    """Recipes with one shape key can train side by side, one lane each: they differ only per lane."""
    return digest("blueberry/shape/1", canonical_json(recipe.identity(per_lane=False)), data_digest)


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
    adapting = (hashlib.sha256(rule + heights[u : u + 1].tobytes()).digest() for u in range(fixed, num_updates))
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
