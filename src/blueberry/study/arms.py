"""The arms of a study: points on its axes, or named changes and their combinations."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blueberry.errors import RecipeError, StudyError
from blueberry.identity import canonical_json
from blueberry.recipe import EITHER_OR, Recipe
from blueberry.study.axes import Axis, arm_name
from blueberry.study.designs import MODES, Design, Effect, combine
from blueberry.study.reading import choice, quoted, refuse, refuse_unknown, scalar, section, settings

BASELINE = "baseline"
MAX_ARMS = 10_000
MAX_NAME = 80
_ARM_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.+-]{{0,{MAX_NAME - 1}}}")


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
    for axis in _in_turn(axes, tuple(knowing), place):
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


def _in_turn(axes: Sequence[Axis], knowing: tuple[str, ...], place: str) -> list[Axis]:
    """The axes, each after those that its conditions name."""
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
                if on.scale != "list" and len(on.values) == 2:
                    continue  # an axis without points
                if value not in on.values:
                    refuse(here, value, f"its axis has no such value ({', '.join(map(str, on.values))}); mend it")
            if set(on.values) <= set(values) and not on.when:
                refuse(here, list(values), "every value of its axis meets it; remove it")
    ready: list[Axis] = []
    left = list(axes)
    while left:
        known = {axis.setting for axis in ready} | (set(knowing) - by_name.keys())
        free = next((axis for axis in left if all(name in known for name, _ in axis.when)), None)
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


def read_named(given: dict[str, Any], base: Recipe, place: str) -> tuple[tuple[Arm, ...], Design]:
    """[arms] and [combine]: the unchanged baseline, the named arms, and what [combine] makes of them.

    Raises: StudyError, RecipeError.
    """
    changes: dict[str, dict[str, Any]] = {}
    for name, table in section(given, "arms", place).items():
        arm_place = f"{place} [arms.{quoted(name)[1:-1]}]"
        if name == BASELINE or not _ARM_NAME.fullmatch(name):
            rule = "an arm's name is made of letters, digits, _ . + - and is not that of the unchanged arm"
            raise StudyError(f"{arm_place}: {quoted(name)}; {rule}; choose another")
        if not isinstance(table, dict):
            refuse(arm_place, table, f"an arm is a table of settings; write [arms.{name}] above them")
        changes[name] = {n: scalar(v, f"{arm_place} {quoted(n)}") for n, v in settings(table, arm_place).items()}
    if len(changes) >= MAX_ARMS:
        raise StudyError(f"{place} [arms]: {len(changes)} arms; a study has at most {MAX_ARMS}; leave some out")
    combined = section(given, "combine", place)
    refuse_unknown(combined, ("mode",), f"{place} [combine]")
    mode = choice(combined, "mode", f"{place} [combine]", "none", MODES)
    try:
        design = combine(tuple(changes), next(known for known in MODES if known == mode))
    except ValueError as broken:
        refuse(f'{place} [combine] "mode"', mode, str(broken))
    if mode != "none":
        _refuse_uncombinable(changes, f"{place} [combine]")
    if len(design.arms) > MAX_ARMS:
        raise StudyError(f"{place} [combine]: {len(design.arms)} arms; a study has at most {MAX_ARMS}; leave some out")
    return tuple(_combined(held, changes, base, place) for held in design.arms), design


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


def content(recipe: Recipe) -> str:
    """What decides a run's numbers, as far as the recipe says: of files their paths, not what lies there."""
    return canonical_json([recipe.identity(), recipe.data.model_dump(mode="json")])


def same_setting(name: str) -> str:
    """One name for settings that say the same in two units."""
    return EITHER_OR.get(name, name)


def as_in(recipe: Recipe, given: Iterable[str]) -> dict[str, Any]:
    """The values as the recipe holds them: 1 given for a number that need not be whole is 1.0."""
    return {name: recipe.get(name) for name in given}
