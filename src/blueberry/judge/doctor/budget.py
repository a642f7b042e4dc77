"""Whether arms get the same: updates, tokens, FLOPs, sum of rates, final rate.

What a study varies may differ, and nothing else. A setting that names a budget (train.updates, train.tokens) asks
about it. Other settings move a budget on the way, and then how bad that is depends on what moved:

- tokens, the data and most of the compute: block. Whoever varies the batch must say that tokens are what is equal
  (train.tokens in place of train.updates).
- FLOPs at equal tokens, because the model varies; updates at equal tokens, because the batch does; the sum of
  rates, because the schedule does: one cannot vary the one and keep the other, so this is said and no more.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from blueberry.architecture import flops_per_token
from blueberry.judge import words
from blueberry.judge.doctor.findings import block, warn
from blueberry.judge.judgement import Audit
from blueberry.recipe import LENGTHS, Recipe
from blueberry.schedules import multiplier, sketch

if TYPE_CHECKING:
    from blueberry.study.spec import Arm, Study

EQUAL = 0.01
"""Budgets that differ by no more than this share are equal."""


def budget(study: "Study") -> list[Audit]:
    """What differs between arms although the study does not vary it."""
    if study.joined == "across" or any(name in LENGTHS for name in study.varied) or not study.arms:
        return []  # conditions are not compared; lengths are the question; nothing is proposed yet
    tokens = _spread(study.arms, lambda recipe: recipe.num_updates * recipe.update_tokens)
    if tokens:
        return [block("budget", f"{_because(study, 'train.')}arms train on {tokens} tokens", _same_tokens(study))]
    found = []
    updates = _spread(study.arms, lambda recipe: recipe.num_updates)
    if updates:
        message = f"{_because(study, 'train.')}arms make {updates} updates of the same text; both differ at once"
        found.append(warn("budget", message, "compare the arms each at its own best learning rate"))
    flops = _spread(study.arms, lambda recipe: flops_per_token(recipe) * recipe.num_updates * recipe.update_tokens)
    if flops:
        message = f"{_because(study, 'model.')}arms compute {flops} FLOPs; a lower loss may be more compute"
        found.append(
            warn("budget", message, "read the loss beside the FLOPs, or give each arm the tokens that equal them")
        )
    return found + ([] if updates else _rates(study))


def _rates(study: "Study") -> list[Audit]:
    """The multipliers of the peak rate, whose sum is how far a run can go."""
    asks_about_schedule = any(name.startswith("schedule.") for name in study.varied)
    summed = _spread(study.arms, _sum_of_heights)
    lasts = [(arm.recipe.schedule, arm.recipe.num_updates) for arm in study.arms]
    ends = [multiplier(schedule, num - 1, num) for schedule, num in lasts]
    if not asks_about_schedule:
        if not summed and max(ends) - min(ends) <= EQUAL:
            return []
        message = f"arms end between {min(ends):.3g} and {max(ends):.3g} of the peak rate, though no schedule varies"
        return [block("budget", message, "give every arm one schedule that fits its length")]
    tuned = {name for part in study.parts for name in part.varied}
    if not summed or any(words.is_rate(name) for name in (*study.varied, *tuned)):
        return []
    message = f"the sums of rates are {summed}, and the peak rate is the same; the best schedule may be the best sum"
    return [warn("budget", message, "vary the peak rate too, and compare each schedule at its own best")]


def _sum_of_heights(recipe: Recipe) -> float:
    seen = sketch(recipe.schedule, recipe.num_updates)
    return sum(seen) * (recipe.num_updates / len(seen))


def _spread(arms: Iterable["Arm"], amount: Callable[[Recipe], float]) -> str:
    """e.g. "1.2M to 2.4M (x2)" where the amounts of the arms are not equal, else empty."""
    amounts = sorted(amount(arm.recipe) for arm in arms)
    low, high = amounts[0], amounts[-1]
    if high <= low * (1 + EQUAL):
        return ""
    return f"{low:.4g} to {high:.4g} (a factor of {high / low:.3g})"


def _because(study: "Study", prefix: str) -> str:
    names = [name for name in study.varied if name.startswith(prefix)]
    vary = "varies, and with it" if len(names) == 1 else "vary, and with them"
    return f"{words.listing(names)} {vary} " if names else ""


def _same_tokens(study: "Study") -> str:
    recipe = study.base
    return f'state what is equal: [set] "train.tokens" = {recipe.num_updates * recipe.update_tokens} for every arm'
