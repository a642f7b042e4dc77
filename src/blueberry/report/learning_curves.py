"""Loss against updates: every arm's mean over its seeds, and every run, thinned to what a picture can show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from blueberry.judge.judgement import Judgement, Status
from blueberry.records import StudyRun
from blueberry.report.axis import find_axis
from blueberry.report.picture_range import picture_range
from blueberry.report.wording import plural

MAX_POINTS = 120
"""Points of one line; longer ones are averaged over blocks of equal length."""
MIN_LATE_EVALUATIONS = 3
"""Fewer in the second half make no curve."""


@dataclass(frozen=True)
class Line:
    """One curve: updates done, and the loss in nats there. None breaks the line."""

    updates: tuple[float, ...]
    losses: tuple[float | None, ...]


@dataclass(frozen=True)
class ArmCurves:
    """One arm's searching runs."""

    arm: str
    status: Status
    shade: float
    """Place on the sequential colour scale, 0 to 1: along the axis, or in the order of the arms."""
    seeds: tuple[int, ...]
    """Numbers of the runs where nobody said their seeds."""
    diverged: tuple[bool, ...]
    """By seed."""
    validation: Line
    """Mean over the seeds, as far as all of them were evaluated."""
    training: Line
    """Mean over the seeds, as far as all of them went, averaged over blocks of updates."""
    seed_validation: tuple[Line, ...]
    seed_training: tuple[Line, ...]


@dataclass(frozen=True)
class Window:
    """The part of the plane a picture shows."""

    updates: tuple[float, float]
    losses: tuple[float, float]


@dataclass(frozen=True)
class LearningCurves:
    arms: tuple[ArmCurves, ...]
    block_updates: int
    """Updates averaged into one point of a training curve."""
    num_updates: int
    """Of the longest run."""
    whole: Window | None
    """All updates; None when nothing was recorded."""
    late: Window | None
    """The second half, where arms are close; None with fewer than three evaluations in it."""
    ordered_by: str | None
    """The setting the colours follow; None for named arms."""

    @property
    def any_training(self) -> bool:
        return any(arm.training.updates for arm in self.arms)

    @property
    def any_validation(self) -> bool:
        """Whether there is a line to draw: one evaluation makes none."""
        return any(len(arm.validation.updates) >= 2 for arm in self.arms)

    def num_above(self, window: Window) -> int:
        """Arms whose mean validation loss leaves that picture at the top."""
        return sum(max(_inside(arm.validation, window), default=-math.inf) > window.losses[1] for arm in self.arms)


def learning_curves(judgement: Judgement, runs: Sequence[StudyRun]) -> LearningCurves:
    """Curves of the searching runs, arms in the order of the judgement."""
    axis = find_axis(judgement)
    searching = [run for run in runs if run.stage == "search"]
    longest = max((len(run.result.curve.train_loss) for run in searching), default=0)
    block = max(1, math.ceil(longest / MAX_POINTS))
    arms = []
    for index, arm in enumerate(judgement.arms):
        own = sorted((run for run in searching if run.arm == arm.arm), key=by_seed)
        place = axis.fraction(float(arm.settings[axis.setting])) if axis else index / max(len(judgement.arms) - 1, 1)
        validation = tuple(_validation(run) for run in own)
        training = tuple(_training(run, block) for run in own)
        arms.append(
            ArmCurves(
                arm=arm.arm,
                status=arm.status,
                shade=place,
                seeds=tuple(number if run.seed is None else run.seed for number, run in enumerate(own)),
                diverged=tuple(run.result.status == "diverged" for run in own),
                validation=_mean(validation),
                training=_mean(training),
                seed_validation=validation,
                seed_training=training,
            )
        )
    num_updates = max((run.result.num_updates or 0 for run in searching), default=0)
    return LearningCurves(
        arms=tuple(arms),
        block_updates=block,
        num_updates=num_updates,
        whole=_whole(arms, num_updates),
        late=None if judgement.conditions else _late(arms, num_updates),  # conditions end at different updates
        ordered_by=axis.setting if axis else None,
    )


def by_seed(run: StudyRun) -> tuple[bool, int]:
    """In this order; runs of which nobody said a seed stay as they came, last."""
    return run.seed is None, run.seed or 0


def arm_window(arm: ArmCurves, curves: LearningCurves) -> Window | None:
    """For one arm's own picture: everything that was recorded of it."""
    lines = (*arm.seed_validation, *arm.seed_training)
    values = [loss for line in lines for loss in line.losses if loss is not None]
    if not values:
        return None
    margin = 0.05 * (max(values) - min(values)) or 0.5
    return Window((0.0, float(curves.num_updates)), (min(values) - margin, max(values) + margin))


def learning_caption(curves: LearningCurves) -> str:
    said = ["Each line is an arm's mean over its seeds, as far as all of its seeds went."]
    if any(arm.status == "best" for arm in curves.arms):
        said.append("Thick lines: the arms not told apart from the best.")
    window = curves.late or curves.whole
    above = curves.num_above(window) if window else 0
    if above:
        said.append(f"{plural(above, 'arm')} {'lies' if above == 1 else 'lie'} above the picture, at least in part.")
    if any(any(arm.diverged) for arm in curves.arms):
        said.append("Crosses: where the first run of an arm diverged.")
    return " ".join(said)


def training_caption(curves: LearningCurves) -> str:
    if curves.block_updates == 1:
        return "Each line is an arm's mean over its seeds, as far as all of its seeds went."
    return f"Each point is the mean over {curves.block_updates} updates and the arm's seeds."


def averaged(curves: LearningCurves) -> str:
    """What to add to "training loss"."""
    return f", averaged over {curves.block_updates} updates" if curves.block_updates > 1 else ""


def _validation(run: StudyRun) -> Line:
    seen = run.result.evaluations
    return Line(tuple(float(e.update) for e in seen), tuple(e.validation.loss for e in seen))


def _training(run: StudyRun, block: int) -> Line:
    """Means of whole blocks, each at the middle of its updates; None where a loss in it was not finite."""
    losses = run.result.curve.train_loss
    updates: list[float] = []
    means: list[float | None] = []
    for start in range(0, len(losses), block):
        part = losses[start : start + block]
        finite = [loss for loss in part if loss is not None]
        updates.append(start + (len(part) + 1) / 2)
        means.append(sum(finite) / len(finite) if len(finite) == len(part) else None)
    return Line(tuple(updates), tuple(means))


def _mean(lines: Sequence[Line]) -> Line:
    """Over the seeds, at the updates that all of them reached: a survivor is never shown as the arm."""
    if not lines:
        return Line((), ())
    by_update = [dict(zip(line.updates, line.losses, strict=True)) for line in lines]
    shared = [update for update in lines[0].updates if all(update in seed for seed in by_update)]
    means: list[float | None] = []
    for update in shared:
        losses = [seed[update] for seed in by_update]
        finite = [loss for loss in losses if loss is not None]
        means.append(sum(finite) / len(finite) if len(finite) == len(losses) else None)
    return Line(tuple(shared), tuple(means))


def _whole(arms: Sequence[ArmCurves], num_updates: int) -> Window | None:
    """All of it, unless fewer than half of the lines rise far above where they began."""
    lines = [line for arm in arms for line in (arm.validation, arm.training)]
    values = [loss for line in lines for loss in line.losses if loss is not None]
    if not values:
        return None
    low, high = min(values), max(values)
    firsts = sorted(line.losses[0] for line in lines if line.losses and line.losses[0] is not None)
    usual = firsts[len(firsts) // 2] if firsts else high
    highest = sorted(max(losses) for line in lines if (losses := [x for x in line.losses if x is not None]))
    top = min(high, max(low + 1.15 * (usual - low), low + 0.5, highest[len(highest) // 2]))
    margin = 0.04 * (top - low) or 0.5
    return Window((0.0, float(num_updates)), (low - margin, top + margin))


def _late(arms: Sequence[ArmCurves], num_updates: int) -> Window | None:
    """The second half of the longest run, scaled to the better half of the arms."""
    updates = (num_updates / 2, float(num_updates))
    plane = Window(updates, (-math.inf, math.inf))
    ended = sorted(
        (losses[-1], losses) for arm in arms if len(losses := _inside(arm.validation, plane)) >= MIN_LATE_EVALUATIONS
    )
    if not ended:
        return None
    better = [losses for _, losses in ended[: (len(ended) + 1) // 2]]
    low = min(losses[-1] for losses in better)
    low = min(low, *(min(losses) for _, losses in ended))
    valley = max(max(losses) for losses in better) - low
    return Window(updates, picture_range(low, max(max(losses) for _, losses in ended), valley / 2))


def _inside(line: Line, window: Window) -> list[float]:
    """The losses at the updates of that window."""
    return [
        loss
        for update, loss in zip(line.updates, line.losses, strict=True)
        if loss is not None and window.updates[0] <= update <= window.updates[1]
    ]


def cut(line: Line, window: Window) -> Line:
    """The part of a line that lies in the window, with the points where it crosses the top."""
    top = window.losses[1]
    kept: list[tuple[float, float | None]] = []
    before: tuple[float, float] | None = None
    for update, loss in zip(line.updates, line.losses, strict=True):
        if not window.updates[0] <= update <= window.updates[1]:
            continue
        if loss is None:
            kept.append((update, None))
            before = None
            continue
        if before is not None and (before[1] > top) != (loss > top):
            kept.append((before[0] + (update - before[0]) * (top - before[1]) / (loss - before[1]), top))
        kept.append((update, loss if loss <= top else None))
        before = (update, loss)
    return Line(tuple(update for update, _ in kept), tuple(loss for _, loss in kept))
