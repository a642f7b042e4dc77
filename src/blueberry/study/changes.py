"""What a study file asks for now against what it asked for when it last ran. Pure.

Results are found by identity, so nothing is mixed whatever has changed; this says what has.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from blueberry.identity import canonical_json
from blueberry.records import RunResult
from blueberry.study.plan import Plan
from blueberry.study.reading import shown
from blueberry.study.spec import Study

NOT_THERE = "not there"
_OF_NO_ARM = ("seed",)


@dataclass(frozen=True)
class Change:
    """A changed study."""

    reused: int
    """Runs of the new plan that have a result already."""
    set_aside: int
    """Runs with a result that the study does not ask for any more; they stay in the store."""
    never_ended: int
    """Runs it does not ask for any more that had no result."""
    settings: tuple[tuple[str, str, str], ...]
    """What is the same in all arms, and was: (dotted setting, old, new), as written."""
    removed: tuple[tuple[str, tuple[str, ...]], ...]
    """By varied setting: values that no arm has any more. Known of runs with a result."""
    added: tuple[str, ...]
    """Arms without a run that was planned before, "part: arm" where there are parts; all of them if none had one."""
    text_changed: bool
    """Runs that it asked for are described by it still, but are others: their text, or their trainer, is another."""

    @property
    def lines(self) -> tuple[str, ...]:
        """In words, one a line."""
        said = [f"{name}: {old} -> {new}" for name, old, new in self.settings]
        said += [f"{name}: no longer {', '.join(values)}" for name, values in self.removed]
        if self.added:
            said.append(f"new arms: {', '.join(self.added)}")
        if not said and self.set_aside and not self.text_changed:
            said.append("fewer or other seeds")
        if self.text_changed:
            said.append("the text, or what computes the runs, has changed")
        return tuple(said)


def change(study: Study, planned: Plan, before: Iterable[str], results: Mapping[str, RunResult]) -> Change | None:
    """None if the study still asks for all that it asked for before, and for no arm more.

    `before` are the fingerprints that were registered for its file when it last ran, `results` those of them that have
    one. A study that has only grown on its way (further looks, fresh seeds) has not changed.
    """
    asked = frozenset(before)
    now = {run.fingerprint for run in planned.runs}
    if not asked or (asked <= now and not _new_arms(study, planned, asked)):
        return None
    new = _recipes(planned)
    described = {canonical_json(results[name].recipe) for name in asked - now if name in results}
    # Planned runs that an old one describes: the same but for their text, or their trainer.
    twins = {run.fingerprint for run, one in zip(planned.runs, new, strict=True) if canonical_json(one) in described}
    new_arms = _new_arms(study, planned, asked | twins)
    lost = {name for name in asked - now if twins or not _may_return(study, planned, results.get(name), new)}
    if not lost and not new_arms:
        return None
    old = [results[name].recipe for name in sorted(lost) if name in results]
    return Change(
        reused=len(planned.done),
        set_aside=len(old),
        never_ended=len(lost) - len(old),
        settings=_moved(old, new) if old else (),
        removed=_removed(old, new, [results[name].recipe for name in asked & now if name in results]),
        added=new_arms,
        text_changed=bool(twins),
    )


def _new_arms(study: Study, planned: Plan, known: frozenset[str]) -> tuple[str, ...]:
    """Arms without a run among the known ones; proposals come and go, so theirs are not counted."""
    if study.method == "optuna":
        return ()
    arms: dict[tuple[str, str], bool] = {}
    for run in planned.runs:
        arms[run.part, run.arm] = arms.get((run.part, run.arm), False) or run.fingerprint in known
    return tuple(f"{part}: {arm}" if part else arm for (part, arm), was in arms.items() if not was)


def _moved(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> tuple[tuple[str, str, str], ...]:
    """Settings of one value in all old runs and of one other in all new ones."""
    before, now = _common(old), _common(new)
    names = [name for name in dict.fromkeys([*before, *now]) if name not in _OF_NO_ARM]
    return tuple(
        (name, shown(before.get(name, NOT_THERE)), shown(now.get(name, NOT_THERE)))
        for name in names
        if before.get(name, NOT_THERE) != now.get(name, NOT_THERE)
        and (name in before or not any(name in recipe for recipe in old))
        and (name in now or not any(name in recipe for recipe in new))
    )


def _removed(
    old: list[dict[str, Any]], new: list[dict[str, Any]], kept: list[dict[str, Any]]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Values of settings that varied among all old runs and that no new one has."""
    found = []
    for name in dict.fromkeys(name for recipe in old for name in recipe):
        values = [recipe[name] for recipe in old if name in recipe]
        was = {canonical_json(value) for value in [*values, *(recipe[name] for recipe in kept if name in recipe)]}
        still = {canonical_json(recipe[name]) for recipe in new if name in recipe}
        lost = dict.fromkeys(shown(value) for value in values if canonical_json(value) not in still)
        if lost and len(was) > 1 and len(still) > 1 and name not in _OF_NO_ARM:
            found.append((name, tuple(lost)))
    return tuple(found)


def _common(recipes: list[dict[str, Any]]) -> dict[str, Any]:
    """Settings that all have, with one value."""
    first = recipes[0]
    return {name: value for name, value in first.items() if all(name in r and r[name] == value for r in recipes)}


def _recipes(planned: Plan) -> list[dict[str, Any]]:
    """One a run, as results hold them: plain JSON."""
    of_arms = {(run.part, run.arm): run.recipe for run in planned.runs}
    plain = {key: json.loads(canonical_json(recipe.flat())) for key, recipe in of_arms.items()}
    return [{**plain[run.part, run.arm], "seed": run.seed} for run in planned.runs]


def _may_return(study: Study, planned: Plan, result: RunResult | None, new: list[dict[str, Any]]) -> bool:
    """Whether a run confirmed an arm that may be the one to confirm again."""
    if result is None or not planned.num_undecided or result.recipe["seed"] < study.base.seed + study.seeds.max:
        return False
    return any({**recipe, "seed": 0} == {**result.recipe, "seed": 0} for recipe in new)
