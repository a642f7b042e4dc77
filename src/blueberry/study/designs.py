"""Which changes go together in an ablation: all single ones, pairs, every combination, or a fraction of them. Pure.

A fraction measures every change by itself, and none of that is mixed with what two changes do together: it has
resolution IV. What it cannot tell apart is its alias structure, here as data, so that it can be said.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Mode = Literal["none", "pairs", "full", "fraction"]
MAX_FULL = 12
"""Changes of a full factorial: 4,096 arms."""
MAX_PAIRS = 140
"""Changes of which every two are made together: 9,871 arms."""
MIN_FRACTION = 4
"""With three changes the half fraction has resolution III."""
MAX_FRACTION = 16
"""In 32 arms."""

Effect = tuple[str, ...]
"""One change alone, or several together, in the order of the study."""


@dataclass(frozen=True)
class Design:
    """Arms as the sets of changes they hold."""

    mode: Mode
    changes: tuple[str, ...]
    arms: tuple[Effect, ...]
    """The first holds none: it is the unchanged baseline."""
    aliases: tuple[tuple[Effect, ...], ...] = ()
    """Of a fraction: effects of one or two changes that it cannot tell apart, a group of two or more each. Only
    the sum of a group's effects is estimated."""


def combine(changes: Sequence[str], mode: Mode) -> Design:
    """The arms of an ablation over changes with these names.

    Arms come with fewer changes first, then in the order of the changes.
    Raises: ValueError, "rule; remedy", if there are too few or too many changes for the mode.
    """
    names = tuple(changes)
    if mode == "fraction":
        return _fraction(names)
    if mode == "pairs" and len(names) > MAX_PAIRS:
        raise ValueError(f'pairs are made of at most {MAX_PAIRS} changes; use "fraction", or leave some out')
    if mode == "full" and len(names) > MAX_FULL:
        raise ValueError(f'a full factorial has at most {MAX_FULL} changes; use "fraction"')
    most = {"none": 1, "pairs": 2, "full": len(names)}[mode]
    arms = [held for size in range(most + 1) for held in itertools.combinations(names, size)]
    return Design(mode, names, tuple(arms))


def fold_over(design: Design, change: str) -> tuple[Effect, ...]:
    """The arms of a fraction with this change switched the other way in each, in the order of its arms."""
    folded = [{*held} ^ {change} for held in design.arms]
    return tuple(tuple(name for name in design.changes if name in held) for held in folded)


def _fraction(names: tuple[str, ...]) -> Design:
    """The two-level fraction of resolution IV or more with the fewest runs.

    Every generator is the product of an odd number of basic changes (Box and Hunter 1961), except that five changes
    get resolution V in the same 16 runs. Source: Montgomery, Design and Analysis of Experiments, table 8.14.
    """
    if not MIN_FRACTION <= len(names) <= MAX_FRACTION:
        remedy = 'use "full"' if len(names) < MIN_FRACTION else "leave some out"
        raise ValueError(f"a fraction of resolution IV has {MIN_FRACTION} to {MAX_FRACTION} changes; {remedy}")
    num_basic = (len(names) - 1).bit_length() + 1
    basic = range(num_basic)
    products = [chosen for size in range(3, num_basic + 1, 2) for chosen in itertools.combinations(basic, size)]
    if len(names) == num_basic + 1:
        products = [tuple(basic)]  # one generator: the longer its word, the better
    words = products[: len(names) - num_basic]
    columns = [1 << place for place in basic] + [sum(1 << place for place in word) for word in words]
    arms = [
        tuple(n for n, column in zip(names, columns, strict=True) if (row & column).bit_count() % 2)
        for row in range(2**num_basic)
    ]
    order = {name: place for place, name in enumerate(names)}
    arms.sort(key=lambda held: (len(held), [order[name] for name in held]))
    return Design("fraction", names, tuple(arms), _aliases(names, columns))


def _aliases(names: tuple[str, ...], columns: list[int]) -> tuple[tuple[Effect, ...], ...]:
    """Effects of one or two changes with the same contrast.

    Each group holds effects of one size, or resolution IV would be broken; so they all add up, none is subtracted.
    """
    by_column: dict[int, list[Effect]] = {}
    for size in (1, 2):
        for places in itertools.combinations(range(len(names)), size):
            column = 0
            for place in places:
                column ^= columns[place]
            by_column.setdefault(column, []).append(tuple(names[place] for place in places))
    return tuple(tuple(group) for group in by_column.values() if len(group) > 1)
