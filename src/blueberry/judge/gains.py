"""Effective speedup: the compute that the baseline would need for an arm's loss, over the arm's own."""

from collections.abc import Sequence

from blueberry.architecture import flops_per_token
from blueberry.judge.answers import Gain
from blueberry.judge.evidence import BASELINE
from blueberry.judge.judgement import Part
from blueberry.recipe import LENGTHS
from blueberry.stats.scaling import effective_speedup
from blueberry.study.spec import Study


def find_gains(study: Study, parts: Sequence[Part]) -> tuple[Gain, ...]:
    """Of each arm at each length against the baseline's complete runs of all lengths.

    Empty unless the conditions are lengths and there is a baseline: the middle of a longer schedule is no end of a
    shorter one, so one length says nothing of the compute that another loss needs.
    """
    if len(study.varied) != 1 or study.varied[0] not in LENGTHS:
        return ()
    points = [(float(part.settings[study.varied[0]]), _mean(part, BASELINE)) for part in parts]
    baseline = [(work, loss) for work, loss in points if loss is not None]
    if len(baseline) < 2:
        return ()
    studies = {part.name: part for part in study.parts}
    gains = []
    for part in parts:
        recipes = {arm.name: arm.recipe for arm in studies[part.name].arms}
        for arm in part.judgement.arms:
            loss = _mean(part, arm.arm)
            if arm.arm == BASELINE or loss is None:
                continue
            found = effective_speedup(
                baseline,
                (float(part.settings[study.varied[0]]), loss),
                baseline_throughput=1 / flops_per_token(recipes[BASELINE]),
                arm_throughput=1 / flops_per_token(recipes[arm.arm]),
            )
            gains.append(
                Gain(
                    arm=arm.arm,
                    condition=part.name,
                    loss_gain=found.loss_gain,
                    more_than=found.more_than,
                    less_than=found.less_than,
                    throughput_gain=found.throughput_gain,
                    factor=found.factor,
                )
            )
    return tuple(gains)


def _mean(part: Part, name: str) -> float | None:
    """Over the searching seeds; None where a run diverged or none ended."""
    mean = next((arm.mean for arm in part.judgement.arms if arm.arm == name), None)
    return None if mean is None or mean == float("inf") else mean
