"""Paired differences of named arms against one of them: what the main figure of a comparison shows."""

import math
from dataclasses import dataclass
from typing import Literal

from blueberry.judge.judgement import Judgement, Verdict
from blueberry.report.picture_range import picture_range
from blueberry.report.wording import metric_name, metric_unit, plural

BASELINE = "baseline"
MAX_INTERVAL_IN_SPREADS = 1.0
"""Intervals may widen the picture by this part of the spread of the seeds on either side; longer ones are cut."""


@dataclass(frozen=True)
class Difference:
    """One arm minus the reference, over the seeds they share."""

    arm: str
    difference: float | None
    """Mean over the shared seeds; None when there is none or a run diverged."""
    interval: tuple[float, float] | None
    n: int
    verdict: Literal["winner", "tie", "inconclusive"]
    winner: str | None
    more_seeds: int | None
    seeds: tuple[tuple[int, float], ...]
    """(seed, difference) where both runs are finite."""
    num_diverged: int
    words: str
    """The verdict as said of this arm."""


@dataclass(frozen=True)
class Differences:
    """Ready to draw; differences are arm minus reference, so below 0 the arm has the lower metric."""

    reference: str
    metric: str
    min_effect: float
    rows: tuple[Difference, ...]
    """Least difference first, those without one last."""
    x_range: tuple[float, float]

    @property
    def label(self) -> str:
        unit = metric_unit(self.metric)
        return f"{metric_name(self.metric)} minus that of {self.reference}" + (f" ({unit})" if unit else "")


def verdict_words(verdict: Verdict) -> str:
    """What a verdict says of its `b`: better, worse, tie, or not settled and by how many more seeds it would be."""
    if verdict.verdict == "tie":
        return "tie"
    if verdict.verdict == "winner":
        return "better" if verdict.winner == verdict.b else "worse"
    if verdict.more_seeds is None:
        return "inconclusive"
    return f"inconclusive, {plural(verdict.more_seeds, 'more seed')}"


def find_reference(judgement: Judgement) -> str | None:
    """The baseline if every other arm was judged against it, else the best arm, else None."""
    names = [arm.arm for arm in judgement.arms]
    others = [name for name in names if name != BASELINE]
    if BASELINE in names and others and all(judgement.verdict(BASELINE, name) for name in others):
        return BASELINE
    return judgement.best.arm if judgement.best and judgement.verdicts else None


def differences(judgement: Judgement) -> Differences | None:
    """Against `find_reference`; None when there are no verdicts to show."""
    reference = find_reference(judgement)
    if reference is None:
        return None
    values = {arm.arm: dict(zip(arm.seeds, arm.values, strict=True)) for arm in judgement.arms}
    rows = []
    for arm in judgement.arms:
        verdict = judgement.verdict(reference, arm.arm)
        if verdict is None:
            continue
        shared = [seed for seed in arm.seeds if seed in values[reference]]
        pairs = [(seed, values[arm.arm][seed], values[reference][seed]) for seed in shared]
        finite = verdict.difference is not None and math.isfinite(verdict.difference)
        rows.append(
            Difference(
                arm=arm.arm,
                difference=verdict.difference if finite else None,
                interval=verdict.interval if finite else None,
                n=verdict.n,
                verdict=verdict.verdict,
                winner=verdict.winner,
                more_seeds=verdict.more_seeds,
                seeds=tuple((seed, x - y) for seed, x, y in pairs if math.isfinite(x) and math.isfinite(y)),
                num_diverged=arm.num_diverged,
                words=verdict_words(verdict),
            )
        )
    rows.sort(key=lambda row: (row.difference is None, row.difference or 0.0))
    return Differences(
        reference=reference,
        metric=judgement.metric,
        min_effect=judgement.min_effect,
        rows=tuple(rows),
        x_range=_x_range(rows, judgement.min_effect),
    )


def differences_caption(shown: Differences) -> str:
    said = ["Each small circle is one seed, each dot the mean difference with its interval, adjusted for the number of"]
    said.append("comparisons. The shaded band is the difference declared too small to matter.")
    beyond = sum(row.difference is not None and row.difference > shown.x_range[1] for row in shown.rows)
    if beyond:
        said.append(f"{plural(beyond, 'arm')} further right than the picture: triangles, with their difference.")
    if any(row.num_diverged for row in shown.rows):
        said.append("Crosses: arms with diverged runs.")
    cut = [row.interval for row in shown.rows if row.interval]
    if any(low < shown.x_range[0] or high > shown.x_range[1] for low, high in cut):
        said.append("Intervals that reach the frame go on beyond it.")
    return " ".join(said)


def _x_range(rows: list[Difference], min_effect: float) -> tuple[float, float]:
    """All seeds and the band, unless a few arms lie far to the right; intervals up to a limit."""
    points = [value for row in rows for _, value in row.seeds]
    shown = [*points, -min_effect, min_effect, 0.0]
    low, high = min(shown), max(shown)
    means = [row for row in rows if row.difference is not None]  # ascending already
    better = means[: (len(means) + 1) // 2]
    core = max([value for row in better for _, value in row.seeds] + [min_effect, 0.0])
    low, high = picture_range(low, high, core - low)
    room = MAX_INTERVAL_IN_SPREADS * (high - low)
    ends = [row.interval for row in rows if row.interval and row.difference is not None and row.difference <= high]
    left = min([end[0] for end in ends], default=low)
    right = max([end[1] for end in ends], default=high)
    return (min(low, max(left * 1.05, low - room)), max(high, min(right * 1.05, high + room)))
