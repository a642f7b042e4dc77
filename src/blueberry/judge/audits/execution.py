"""Audits of how our own runs were carried out: was what ran what was declared, was held-out text kept apart?"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from blueberry.judge import words
from blueberry.judge.audits import BELOW_TRAINING, block
from blueberry.judge.judgement import Audit
from blueberry.recipe import Recipe
from blueberry.records import RunResult, StudyRun
from blueberry.schedules import multipliers
from blueberry.settings import peak_rates

RATE_TOLERANCE = 1e-6
"""Relative: a rate that passed through 32 bits is still the declared one."""
SEVERAL_PASSES = 3.0
WINDOW_TOKENS = 256
"""Of the held-out windows that are looked for in training. Clean text shares much: of held-out runs of 13 tokens 3 to
33% occur in training too (licences, imports, idioms), so a limit of 1% on those accuses everybody. Whole windows of 256
tokens are shared by nature in 0 to 0.8% of cases, and a leak of a share of the documents shares that share of windows
(docs/doctor.md has the measurement)."""
MOST_SHARED_WINDOWS = 0.02


@dataclass(frozen=True)
class Text:
    """What is known of the text that a recipe trains on; None where it is not."""

    entropy_bits_per_byte: float | None = None
    train_tokens: int | None = None
    """Unique training tokens."""
    shared_windows: Callable[[], float] | None = None
    """The share of held-out windows of WINDOW_TOKENS that stand in the training text word for word; slow when first
    asked for."""


Texts = Callable[[Recipe], Text]


def no_texts(recipe: Recipe) -> Text:
    """Nothing is known: the audits that need it stay silent."""
    return Text()


@dataclass(frozen=True, slots=True)
class Done:
    """Of a run, what all runs together are judged by: its numbers and what its curves say of how it was made."""

    part: str
    arm: str
    num_tokens: int | None
    num_flops: float | None
    train_seconds: float | None
    """None where it ended and nobody said."""
    shared: float
    """Of the updates, those taken over from another run, as a share."""
    shared_seconds: float
    train_loss: float | None
    val_loss: float | None
    bits_per_byte: float | None
    wrong_rate: str | None
    """The first rate that was not the planned one, in words."""
    skipped_updates: int
    """Of a completed run, those that it has not made."""

    @classmethod
    def of(cls, run: StudyRun, recipe: Recipe | None) -> "Done":
        """`recipe`: what it was to be, where that is known."""
        result = run.result
        shared = result.shared_updates / result.num_updates if result.shared_updates and result.num_updates else 0.0
        return cls(
            run.part,
            run.arm,
            result.num_tokens,
            result.num_flops,
            0.0 if result.train_seconds is None and result.status == "failed" else result.train_seconds,
            shared,
            result.shared_seconds,
            _late_loss(result),
            result.metric("val_loss"),
            None if result.final is None else result.final.bits_per_byte,
            *((None, 0) if recipe is None else departure(recipe, result)),
        )


def departure(recipe: Recipe, result: RunResult) -> tuple[str | None, int]:
    """Where a run left its recipe: the first rate that was not the planned one, in words, and the updates that a
    completed run has not made. A result without a count of updates is of a trainer that does not say."""
    used, planned = result.curve.learning_rate, planned_rates(recipe, result)
    pairs = enumerate(zip(used, planned, strict=False))
    place = next((at for at, (was, right) in pairs if abs(was - right) > RATE_TOLERANCE * abs(right)), None)
    rate = None if place is None else f"{used[place]:.4g} for {planned[place]:.4g} at update {place + 1}"
    if result.status != "completed":
        return rate, 0
    missing = max(recipe.num_updates - result.num_updates, 0) if result.num_updates else 0
    return rate, missing + sum(loss is None for loss in result.curve.train_loss)


def _late_loss(result: RunResult) -> float | None:
    """The training loss over the last tenth of a curve: that of one update is as noisy as its batch is small."""
    late = result.curve.train_loss[-max(1, len(result.curve.train_loss) // 10) :]
    finite = [loss for loss in late if loss is not None]
    return fmean(finite) if finite else result.metric("train_loss")


def planned_rates(recipe: Recipe, result: RunResult) -> list[float]:
    """The matrices' rate at each update, with the cuts that the evaluations make an adaptive schedule decide."""
    seen = [(one.update, one.validation.loss) for one in result.evaluations]
    peak = peak_rates(recipe.optimizer)["matrices"]
    return [peak * height for height in multipliers(recipe.schedule, recipe.num_updates, seen)]


def departures(done: Sequence[Done]) -> list[Audit]:
    """Rates that were not planned, and updates that were not made: a completed run must have made all of its."""
    found = []
    rates = {one.arm: one.wrong_rate for one in reversed(done) if one.wrong_rate is not None}
    if rates:
        names = list(reversed(rates))
        message = (
            f"{words.listing(names)}: the rate really used is not the declared one ({names[0]}: {rates[names[0]]})"
        )
        remedy = "make the trainer use the recipe's rate at every update, and run again"
        found.append(block("schedule", message, remedy))
    skipped = [one for one in done if one.skipped_updates]
    if skipped:
        names = list(dict.fromkeys(one.arm for one in skipped))
        most = words.count(max(one.skipped_updates for one in skipped), "update")
        message = f"{words.listing(names)} skipped up to {most} and count as success; a step not made is no training"
        remedy = "count the runs as diverged, or lower the rate until none is skipped"
        found.append(block("diverged", message, remedy))
    return found


def known_too_well(done: Sequence[Done], passes: float) -> list[Audit]:
    """Of runs that saw their text `passes` times: held-out text that they know better."""
    suspects = [
        one.arm
        for one in done
        if one.train_loss is not None
        and one.val_loss is not None
        and one.val_loss < (1 - BELOW_TRAINING) * one.train_loss
    ]
    if passes < SEVERAL_PASSES or not suspects:
        return []
    message = (
        f"{words.listing(list(dict.fromkeys(suspects)))}: validation loss below training loss after "
        f"{passes:.1f} passes; text seen so often should be known better than text never seen"
    )
    return [block("leak", message, "split documents, not windows, and look for validation text in training")]


def shared_text(recipes: Iterable[Recipe], texts: Texts) -> list[Audit]:
    """Held-out text that was trained on, word for word, in any of the texts of a study's recipes."""
    longest: dict[str, Recipe] = {}
    for recipe in recipes:  # of beginnings of one text the longest holds the others
        whole = recipe.data.model_copy(update={"max_train_tokens": None}).model_dump_json()
        before = longest.setdefault(whole, recipe)
        if (recipe.data.max_train_tokens or math.inf) > (before.data.max_train_tokens or math.inf):
            longest[whole] = recipe
    found = []
    for shared in (texts(recipe).shared_windows for recipe in longest.values()):
        if shared is not None and (share := shared()) > MOST_SHARED_WINDOWS:
            windows = f"validation windows of {WINDOW_TOKENS} tokens"
            message = f"{share:.1%} of the {windows} are in the training text word for word"
            remedy = "split documents, not windows, and leave out documents that stand twice"
            found.append(block("leak", message, remedy))
    return found
