"""Audits of results against their recipes: was what ran what was declared?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blueberry.judge import words
from blueberry.judge.doctor.findings import block
from blueberry.judge.judgement import Audit
from blueberry.recipe import Recipe
from blueberry.records import RunResult
from blueberry.schedules import multipliers
from blueberry.settings import peak_rates

RATE_TOLERANCE = 1e-6
"""Relative: a rate that passed through 32 bits is still the declared one."""

Ran = Sequence[tuple[str, Recipe, RunResult]]
"""Arm, what was asked for, what came back."""


@dataclass(frozen=True, slots=True)
class Departure:
    """Where one run left its recipe."""

    rate: str | None
    """The first rate that was not the planned one, in words."""
    skipped_updates: int
    """Of a completed run, those that it has not made."""


def audit_execution(ran: Ran) -> list[Audit]:
    """Realised rates that were not planned, and updates that were not made."""
    return audit_departures((arm, departure(recipe, result)) for arm, recipe, result in ran)


def audit_departures(seen: Iterable[tuple[str, Departure]]) -> list[Audit]:
    """The same of what was seen of each run before, by arm."""
    found = list(seen)
    return [*_unkept_rates(found), *_skipped(found)]


def departure(recipe: Recipe, result: RunResult) -> Departure:
    """Of one run, which alone needs its curves. A count of 0 updates is a trainer that does not say."""
    used, planned = result.curve.learning_rate, planned_rates(recipe, result)
    place = next((at for at, rates in enumerate(zip(used, planned, strict=False)) if _differ(*rates)), None)
    rate = None if place is None else f"{used[place]:.4g} for {planned[place]:.4g} at update {place + 1}"
    if result.status != "completed":
        return Departure(rate, 0)
    missing = max(recipe.num_updates - result.num_updates, 0) if result.num_updates else 0
    return Departure(rate, missing + sum(loss is None for loss in result.curve.train_loss))


def _unkept_rates(seen: Iterable[tuple[str, Departure]]) -> list[Audit]:
    wrong: dict[str, str] = {}
    for arm, one in seen:
        if one.rate is not None:
            wrong.setdefault(arm, one.rate)
    if not wrong:
        return []
    first = next(iter(wrong))
    message = f"{words.listing(list(wrong))}: the rate really used is not the declared one ({first}: {wrong[first]})"
    return [block("schedule", message, "make the trainer use the recipe's rate at every update, and run again")]


def planned_rates(recipe: Recipe, result: RunResult) -> list[float]:
    """The matrices' rate at each update, with the cuts that the evaluations make an adaptive schedule decide."""
    seen = [(one.update, one.validation.loss) for one in result.evaluations]
    peak = peak_rates(recipe.optimizer)["matrices"]
    return [peak * height for height in multipliers(recipe.schedule, recipe.num_updates, seen)]


def _differ(used: float, planned: float) -> bool:
    return abs(used - planned) > RATE_TOLERANCE * abs(planned)


def _skipped(seen: Iterable[tuple[str, Departure]]) -> list[Audit]:
    """A completed run must have made all its updates."""
    wrong: dict[str, int] = {}
    for arm, one in seen:
        if one.skipped_updates:
            wrong[arm] = max(one.skipped_updates, wrong.get(arm, 0))
    if not wrong:
        return []
    most = words.count(max(wrong.values()), "update")
    message = f"{words.listing(list(wrong))} skipped up to {most} and count as success; a step not made is no training"
    return [block("diverged", message, "count the runs as diverged, or lower the rate until none is skipped")]


def overfitted_or_leaked(ran: Iterable[tuple[str, float, float]], passes: float) -> list[Audit]:
    """From (arm, training loss, validation loss) of runs that saw their text `passes` times."""
    suspects = [arm for arm, train, held_out in ran if held_out < (1 - BELOW_TRAINING) * train]
    if passes < SEVERAL_PASSES or not suspects:
        return []
    message = (
        f"{words.listing(list(dict.fromkeys(suspects)))}: validation loss below training loss after "
        f"{passes:.1f} passes; text seen so often should be known better than text never seen"
    )
    return [block("too-good", message, "look for validation text in training")]


SEVERAL_PASSES = 3.0
BELOW_TRAINING = 0.05
"""Dropout raises the training loss, and it is measured before the update: a few hundredths are no leak."""
