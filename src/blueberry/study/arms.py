"""What a study compares: values along axes, crossed, or named changes and their combinations (pairs, all of them, a
fraction of these); each on several seeds.

Changes are combined as single ones, pairs, every combination, or a fraction of them. A fraction measures every change
by itself, and none of that is mixed with what two changes do together: it has resolution IV. What it cannot tell apart
is its alias structure, here as data, so that it can be said.
"""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from blueberry.errors import RecipeError, StudyError, did_you_mean
from blueberry.files import canonical_json
from blueberry.recipe import Recipe
from blueberry.records import LARGEST, SIGNIFICANT_DIGITS, SMALLEST, Stage, arm_name, is_usable_number, rounded
from blueberry.study.sections import Mode, quoted, refuse, refuse_seed, same_setting, scalar, scalars, settings

BASELINE = "baseline"
MAX_POINTS = 1_000
MAX_ARMS = 10_000
MAX_NAME = 80
MAX_FULL = 12
"""Changes of a full factorial: 4,096 arms."""
MAX_PAIRS = 140
"""Changes of which every two are made together: 9,871 arms."""
MIN_FRACTION = 4
"""With three changes the half fraction has resolution III."""
MAX_FRACTION = 16
"""In 32 arms."""
_ARM_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.+-]{{0,{MAX_NAME - 1}}}")
Effect = tuple[str, ...]
"""One change alone, or several together, in the order of the study."""


@dataclass(frozen=True)
class Axis:
    """One varied setting."""

    setting: str
    """Its dotted name."""
    values: tuple[Any, ...]
    """In the order of the file; at least two, all different. Of an axis without points: its two ends."""
    scale: Literal["log", "linear", "list"]
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    """The axis is there only where each of these settings has one of these values."""
    is_range: bool = False
    """Any value between the two ends, not the ends alone."""


@dataclass(frozen=True)
class Arm:
    """One of the recipes that are compared."""

    name: str
    settings: dict[str, Any]
    """What tells it from the others: dotted setting to value. Empty for the baseline."""
    recipe: Recipe
    """With [set] and its own settings applied; its seed is the base recipe's."""
    factors: tuple[str, ...] = ()
    """Of a named arm: the changes it holds, by their names; none for the baseline."""


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


@dataclass(frozen=True)
class Run:
    """One arm on one seed."""

    arm: str
    seed: int
    recipe: Recipe
    fingerprint: str
    shape_key: str
    """Runs with one shape key can train side by side."""
    stage: Stage
    data_digest: str
    """What it is trained on, by content."""
    part: str = ""
    """Of a study made of parts: the name of the part whose arm this is."""
    look: int = 0
    """Of a search that goes on from what it saw: how many looks or batches were before this run."""

    @property
    def label(self) -> str:
        """Part, arm and seed, for a person."""
        return f"{self.part}: {self.arm}, seed {self.seed}" if self.part else f"{self.arm}, seed {self.seed}"


def as_in(recipe: Recipe, given: Iterable[str]) -> dict[str, Any]:
    """The values as the recipe holds them: 1 given for a number that need not be whole is 1.0."""
    return {name: recipe.get(name) for name in given}


def content(recipe: Recipe) -> str:
    """What decides a run's numbers, as far as the recipe says: of files their paths, not what lies there."""
    return canonical_json([recipe.identity(), recipe.data.model_dump(mode="json")])


# --- Axes --------------------------------------------------------------------------------------------------------


Points = Literal["needed", "optional", "none"]
"""Whether an axis between two ends has points: a grid does, proposals lie anywhere, and a search takes either."""


def read_axis(setting: str, given: Any, current: Any, place: str, *, points: Points = "needed") -> Axis:
    """An axis from what the file gives: a list, { values = [..] }, or { log = [a, b], points = n } or the same with
    linear; a table may also hold when = { "setting" = value or list of values }.

    `current` is the setting's value in the base recipe (None if it has none): where that is whole, the points
    are. Points between the ends are rounded to 4 significant digits, so that names are readable. Without points
    the axis is what lies between its ends.
    Raises: StudyError naming `place` and the setting.
    """
    place = f'{place} "{setting}"'
    table = {"values": given} if isinstance(given, list) else given
    if not isinstance(table, dict):
        refuse(place, given, "an axis is a list or { log = [a, b], points = n } or { linear = [a, b], points = n }")
    for name in table:
        if name not in (known := ("log", "linear", "points", "values", "when")):
            raise StudyError(f"{place} {quoted(name)}: no such key{did_you_mean(name, known)}")
    forms = [name for name in ("values", "log", "linear") if name in table]
    if len(forms) != 1:
        refuse(place, given, "an axis has one of values = [..], log = [a, b] and linear = [a, b]; keep one")
    when = _conditions(table["when"], setting, place) if "when" in table else ()
    if forms == ["values"]:
        if "points" in table:
            refuse(f'{place} "points"', table["points"], "a list has its own values; remove points")
        values = table["values"]
        if not isinstance(values, list) or len(values) > MAX_POINTS:
            refuse(place, values, f"the values are a list of at most {MAX_POINTS}; mend it")
        # So that 1 and 1.0 are one value and have one name, as they are in the recipe.
        values = [float(v) if isinstance(current, float) and is_usable_number(v) else scalar(v, place) for v in values]
        axis = Axis(setting, tuple(values), "list", when)
    else:
        scale: Literal["log", "linear"] = "log" if forms == ["log"] else "linear"
        is_range = points == "none" or (points == "optional" and "points" not in table)
        axis = Axis(setting, _spaced(table, scale, current, place, is_range=is_range), scale, when, is_range)
    if len(axis.values) < 2:
        refuse(place, given, "an axis needs two values or more; add values, or put the setting into [set]")
    for number, value in enumerate(axis.values):
        if value in axis.values[:number]:
            refuse(place, value, "the value stands twice on the axis; each value needs its own arm; remove one")
    return axis


def _conditions(given: Any, setting: str, place: str) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    place = f'{place} "when"'
    if not isinstance(given, dict) or not given:
        refuse(place, given, 'must be a table of settings; write when = { "setting" = value }')
    found = []
    for name, value in settings(given, place).items():
        here = f"{place} {quoted(name)}"
        if name == setting:
            refuse(here, value, "an axis cannot depend on itself; remove it")
        values = tuple(scalar(one, here) for one in (value if isinstance(value, list) else [value]))
        if not values:
            refuse(here, value, "no value meets it; give one or more")
        found.append((name, values))
    return tuple(found)


def _spaced(table: dict[str, Any], scale: str, current: Any, place: str, *, is_range: bool) -> tuple[Any, ...]:
    """The points from one end to the other; of a range the ends alone."""
    ends = table[scale]
    if not isinstance(ends, list) or len(ends) != 2 or not all(is_usable_number(end) for end in ends):
        size = f", 0 or {SMALLEST:g} to {LARGEST:g} in size" if isinstance(ends, list) and len(ends) == 2 else ""
        refuse(place, ends, f"must be two numbers{size}; write {scale} = [first, last]")
    first, last = ends
    if not first < last:
        refuse(place, ends, "the first end must be below the last; swap or change them")
    if scale == "log" and first <= 0:
        refuse(place, ends, "a log axis has only numbers above 0; raise the first end or use linear")
    whole = isinstance(first, int) and isinstance(last, int) and not isinstance(current, float)
    if is_range:
        if "points" in table:
            refuse(f'{place} "points"', table["points"], "proposals lie anywhere between the ends; remove points")
        return (first, last) if whole else (float(first), float(last))
    points = table.get("points")
    if points is None:
        refuse(place, table, "an axis between two ends needs points; add points = 9")
    if not isinstance(points, int) or isinstance(points, bool) or not 2 <= points <= MAX_POINTS:
        refuse(f'{place} "points"', points, f"must be a whole number from 2 to {MAX_POINTS}; change it")
    low, high = (math.log(first), math.log(last)) if scale == "log" else (first, last)
    inner = [low + number / (points - 1) * (high - low) for number in range(1, points - 1)]
    inner = [math.exp(x) for x in inner] if scale == "log" else inner
    values = [first, *(round(x) if whole else rounded(x) for x in inner), last]
    values = values if whole else [float(value) for value in values]
    if len(set(values)) < len(values):
        rounding = "whole numbers" if whole else f"{SIGNIFICANT_DIGITS} digits"
        refuse(place, table, f"points fall together when rounded to {rounding}; lower points or list the values")
    return tuple(values)


def cross(
    axes: Sequence[Axis], base: Recipe, place: str, *, knowing: Iterable[str] = (), among: Sequence[str] = ()
) -> tuple[Arm, ...]:
    """Every combination, the last axis fastest; an axis with a condition only where it is met.

    Conditions are on other axes, or on the settings of `knowing`, whose values `base` has. `among` are all settings
    that names must tell apart, if these axes are not all.
    Raises: StudyError for conditions that run in a circle, name anything else, or that every value of an axis meets;
    for more than MAX_ARMS combinations; RecipeError for a value that breaks a rule.
    """
    points: list[dict[str, Any]] = [{}]
    _refuse_odd_conditions(axes, tuple(knowing), place)
    for axis in in_turn(axes, place):
        grown: list[dict[str, Any]] = []
        for point in points:
            values = axis.values if _is_met(axis, axes, point, base) else (None,)
            grown += [point if value is None else {**point, axis.setting: value} for value in values]
            if len(grown) > MAX_ARMS:
                raise StudyError(
                    f"{place}: more than {MAX_ARMS} combinations; a grid has at most so many; leave some values out"
                )
        points = grown
    order = [axis.setting for axis in axes]
    arms = []
    for point in points:
        chosen = {name: point[name] for name in order if name in point}
        arms.append(Arm(arm_name(chosen, among or order), chosen, base.with_(chosen, place=place)))
    return tuple(arms)


def refuse_never_met(axes: Sequence[Axis], arms: Iterable[Arm], place: str) -> None:
    """Raises: StudyError if no arm has a value of some axis, because its conditions exclude one another."""
    used = {name for arm in arms for name in arm.settings}
    for axis in axes:
        if axis.setting not in used:
            asked = {name: list(values) for name, values in axis.when}
            refuse(f'{place} "{axis.setting}" "when"', asked, "no arm meets it; mend or remove it")


def _refuse_odd_conditions(axes: Sequence[Axis], knowing: tuple[str, ...], place: str) -> None:
    """Those that decide nothing, or that no value meets."""
    by_name = {axis.setting: axis for axis in axes}
    for axis in axes:
        for name, values in axis.when:
            here = f'{place} "{axis.setting}" "when" {quoted(name)}'
            if name not in by_name:
                if name in knowing:
                    continue
                refuse(here, list(values), "it is the same in every arm, so it decides nothing; vary it or remove this")
            on = by_name[name]
            for value in values:
                if on.is_range:
                    continue
                if value not in on.values:
                    refuse(here, value, f"its axis has no such value ({', '.join(map(str, on.values))}); mend it")
            if set(on.values) <= set(values) and not on.when:
                refuse(here, list(values), "every value of its axis meets it; remove it")


def in_turn(axes: Iterable[Axis], place: str) -> list[Axis]:
    """The axes, each after those that its conditions name. Raises: StudyError if they run in a circle."""
    ready, left = list[Axis](), list(axes)
    while left:
        to_come = {axis.setting for axis in left}
        free = next((axis for axis in left if to_come.isdisjoint(name for name, _ in axis.when)), None)
        if free is None:
            asked = [name for name, _ in left[0].when]
            refuse(f'{place} "{left[0].setting}" "when"', asked, "conditions run in a circle; remove one of them")
        ready.append(free)
        left.remove(free)
    return ready


def _is_met(axis: Axis, axes: Sequence[Axis], point: Mapping[str, Any], base: Recipe) -> bool:
    names = {other.setting for other in axes}
    flat = base.flat() if any(name not in names for name, _ in axis.when) else {}
    return all((point.get(name) if name in names else flat.get(name)) in values for name, values in axis.when)


# --- Named changes -----------------------------------------------------------------------------------------------


def read_named(tables: Mapping[str, Any], mode: Mode, base: Recipe, place: str) -> tuple[tuple[Arm, ...], Design]:
    """[arms] and [combine]: the unchanged baseline, the named arms, and what [combine] makes of them.

    Raises: StudyError, RecipeError.
    """
    changes: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        arm_place = f"{place} [arms.{quoted(name)[1:-1]}]"
        if name == BASELINE or not _ARM_NAME.fullmatch(name):
            rule = "an arm's name is made of letters, digits, _ . + - and is not that of the unchanged arm"
            raise StudyError(f"{arm_place}: {quoted(name)}; {rule}; choose another")
        if not isinstance(table, dict):
            refuse(arm_place, table, f"an arm is a table of settings; write [arms.{name}] above them")
        changes[name] = scalars(table, arm_place)
        for setting in changes[name]:
            refuse_seed(setting, arm_place)
    try:
        design = combine(tuple(changes), mode)
    except ValueError as broken:
        refuse(f'{place} [combine] "mode"', mode, str(broken))
    if mode != "none":
        _refuse_uncombinable(changes, f"{place} [combine]")
    if len(design.arms) > MAX_ARMS:
        raise StudyError(f"{place} [arms]: {len(design.arms)} arms; a study has at most {MAX_ARMS}; leave some out")
    return tuple(_combined(held, changes, base, place) for held in design.arms), design


def holding(arms: Sequence[Arm], held: Effect, base: Recipe, place: str) -> Arm:
    """The arm that holds these changes, each as in those of `arms` that hold it: what all of them have is its own.

    Raises: StudyError if the changes do not go together.
    """
    changes = {}
    for change in held:
        having = [arm.settings.items() for arm in arms if change in arm.factors]
        changes[change] = dict(item for item in having[0] if all(item in other for other in having[1:]))
    return _combined(held, changes, base, place)


def _combined(held: Effect, changes: Mapping[str, Mapping[str, Any]], base: Recipe, place: str) -> Arm:
    """The arm that holds these changes."""
    if not held:
        return Arm(BASELINE, {}, base)
    where = f"{place} [arms.{held[0]}]" if len(held) == 1 else f'{place} [combine] "{"+".join(held)}"'
    changed = {name: value for change in held for name, value in changes[change].items()}
    recipe = base.with_(changed, place=where)
    try:
        return Arm("+".join(held), as_in(recipe, changed), recipe, held)
    except RecipeError:  # one change's kind has no place for the other's setting
        lost = next(name for name in changed if name not in recipe.flat())
        refuse(
            f"{where} {quoted(lost)}", changed[lost], "the kind that is chosen beside it has no such setting; mend it"
        )


def _refuse_uncombinable(changes: Mapping[str, Mapping[str, Any]], place: str) -> None:
    """Two changes of one setting cannot both be made."""
    whose: dict[str, str] = {}
    for change, table in changes.items():
        if "+" in change:
            refuse(f'{place} "{change}"', change, "+ joins the names of combinations; choose another name")
        for name in table:
            first = whose.setdefault(same_setting(name), change)
            if first != change:
                raise StudyError(
                    f'{place} {quoted(name)}: changed by "{first}" and by "{change}"; changes of one setting cannot be '
                    'combined; compare them with mode = "none"'
                )


def refuse_equal_arms(arms: Iterable[Arm], place: str) -> None:
    """A dead knob: two arms whose settings differ, but not in anything that decides a number. Raises: StudyError."""
    seen: dict[str, Arm] = {}
    for arm in arms:
        twin = seen.setdefault(content(arm.recipe), arm)
        if twin is arm:
            continue
        names = dict.fromkeys([*arm.settings, *twin.settings])
        knobs = [n for n in names if arm.settings.get(n) != twin.settings.get(n)] or list(names)
        named = f' "{knobs[0]}"' if knobs else ""
        where = f"{place} [arms.{arm.name}]" if arm.factors else f"{place} [vary]"
        raise StudyError(
            f'{where}{named}: arms "{twin.name}" and "{arm.name}" are the same run; '
            "arms must differ in something that decides a number; remove one or change a setting that counts"
        )


# --- Designs: which changes go together --------------------------------------------------------------------------


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
