"""Which runs can begin where another run has been, so that no update is trained twice. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blueberry.identity import common_updates, course, state_name, trunk_key
from blueberry.study.plan import Run

LEAST_UPDATES = 10
"""In common, below which a run trains them itself. Writing, syncing, reading and checking a state takes a fifth of an
update of the nano recipes on a CPU, but several where updates are fast and models large."""


@dataclass(frozen=True)
class Fork:
    """Where a run leaves the way of another."""

    parent: str
    """Fingerprint of a run that passes through the state."""
    update: int
    """Updates done there."""
    state: str
    """Its name by content."""


def forks(groups: Iterable[Sequence[Run]]) -> dict[str, Fork]:
    """Where each run can begin, by fingerprint; a run that is not in it begins at the start.

    `groups` are trained side by side, so all lanes of one begin at the same update, or at the start. The longest
    run of its kind is the trunk. Every other forks as late as it can from the runs placed before it: then each
    stretch of updates that several have in common is trained once, whatever the order. A fork's parent is always
    placed before it, so nobody ever waits in a circle.
    """
    longest_first = sorted(groups, key=lambda group: -group[0].recipe.num_updates)
    if len({(run.recipe.schedule, run.recipe.num_updates) for group in longest_first for run in group}) < 2:
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
