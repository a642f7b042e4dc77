"""Audits of runs that have ended: each looks for one way in which they would not support the claim.

An audit is a function of what was measured that returns its findings; to add one, write it and enter it in AUDITS.
"""

import itertools
import math
from collections.abc import Callable
from statistics import median

from blueberry.judge import words
from blueberry.judge.doctor.findings import block, blocking_first, warn
from blueberry.judge.doctor.rows import ROW_AUDITS
from blueberry.judge.judgement import Audit, Bound
from blueberry.judge.measured import LEAST_BLOCKS, Measured, axis_values

LEAST_AXIS_VALUES = 3
"""Fewer values of a setting are a comparison, not a range with ends."""
EXTENSION = 2
"""Steps of its values by which a range should grow."""
BELOW_ENTROPY = 0.97
"""A fixed evaluation set is a sample: by chance alone its loss stays within 3% of the expectation."""
ROUNDED_TO = 6
"""Equal values with more decimals than this are no coincidence, even on one seed."""


def audit(measured: Measured) -> tuple[Audit, ...]:
    """Every finding of every audit, blocking ones first."""
    found = [finding for look in (*AUDITS.values(), *ROW_AUDITS.values()) for finding in look(measured)]
    return blocking_first([*measured.evidence.audits, *found])


def edge(measured: Measured) -> list[Audit]:
    """The best value, the unresolved set or the optimum's interval touches the end of the range."""
    evidence, found = measured.evidence, []
    if measured.best is None:
        return []
    for setting in evidence.vary:
        values = axis_values(evidence, setting)
        if values is None or len(set(values)) < LEAST_AXIS_VALUES:
            continue
        steps = sorted(set(values))
        touching = {values[measured.best]}
        is_axis = measured.axis is not None and measured.axis.setting == setting
        if is_axis and measured.can_judge:
            touching |= {values[i] for i in measured.unresolved}
            if isinstance(measured.optimum, Bound):
                touching.add(steps[0] if measured.optimum.side == "below" else steps[-1])
        is_log = measured.axis.is_log if is_axis and measured.axis else steps[0] > 0
        low = steps[0] in touching and steps[0] != 0  # 0 is where a setting ends, not where somebody stopped
        high = steps[-1] in touching
        if low and high:
            found.append(_both_ends(setting, steps, len(measured.unresolved)))
        elif low or high:
            found.append(_one_end(measured, setting, steps, values[measured.best], is_log=is_log, high=high))
    return found


def _both_ends(setting: str, steps: list[float], num_unresolved: int) -> Audit:
    low, high = words.setting_value(steps[0]), words.setting_value(steps[-1])
    message = f"{num_unresolved} arms are not separated, from one end of {setting} ({low}) to the other ({high})"
    return block("edge", message, "run more seeds, then extend the range on the side that is left")


def _one_end(measured: Measured, setting: str, steps: list[float], best: float, *, is_log: bool, high: bool) -> Audit:
    end = steps[-1] if high else steps[0]
    reach = measured.evidence.reach.get(setting)
    last = end if reach is None else reach[1] if high else reach[0]
    step = (1 if high else -1) * EXTENSION * _step(steps, reach, is_log=is_log)
    to = last * math.exp(step) if is_log else max(last + step, 0.0)
    if all(value.is_integer() for value in steps):
        to = max(float(round(to)), 1.0)
    which, direction = ("largest", "up") if high else ("smallest", "down")
    what = "the best value" if best == end else "a value that may be the best"
    message = f"{what} of {setting}, {words.setting_value(end)}, is the {which} tried, so the best may lie beyond"
    remedy = f"extend {setting} {direction} to {words.setting_value(to)}"
    if last != end:
        remedy = f"propose more values, {direction} to {words.setting_value(last)}; if the end stays the best, {remedy}"
    return block("edge", message, remedy)


def _step(steps: list[float], reach: tuple[float, float] | None, *, is_log: bool) -> float:
    """How far values lie apart, in logarithm or as they are: the median on a grid. In a range that values were
    proposed from, chance makes neighbours; there as even spacing would have it."""
    ends = [math.log(value) if is_log else value for value in reach or steps]
    return median(b - a for a, b in itertools.pairwise(ends)) / (len(steps) - 1 if reach else 1)


def seeds(measured: Measured) -> list[Audit]:
    """Too few blocks, one seed several times, or seeds that change nothing."""
    found = []
    evidence, num_blocks = measured.evidence, measured.num_blocks
    if num_blocks < LEAST_BLOCKS:
        what = f"every arm ended on {words.count(num_blocks, 'seed')}" if num_blocks else "on no seed did every arm end"
        message = f"{what}, and with fewer than {LEAST_BLOCKS} no difference can be told from chance"
        found.append(block("seeds", message, f"run every arm on at least {LEAST_BLOCKS} seeds"))
    if evidence.repeated_seeds:
        message = f"{words.listing(evidence.repeated_seeds)}: one seed value more than once; a repeat is no new block"
        found.append(block("seeds", message, "give each run of an arm its own seed, or leave the repeats out"))
    repeated = [arm for arm in evidence.arms if sum(math.isfinite(v) for v in arm.search.values()) >= 2]
    if repeated and all(len(set(arm.search.values())) == 1 for arm in repeated):
        message = "every seed gives the same value, so the seed changes nothing and n is 1"
        found.append(block("seeds", message, "make the trainer read the seed"))
    return found


def diverged(measured: Measured) -> list[Audit]:
    """Runs without a result, or counted as a success above the loss of guessing."""
    evidence, found = measured.evidence, []
    again, later = "run the study again; only these are repeated", "run the study again; what is done is kept"
    if any(arm.facts is not None for arm in evidence.arms):  # rows of a table: there is no study to run again
        again, later = "make these runs again and enter their numbers", "enter their numbers when they have"
    crashed = [f"{arm.name} (seed {seed})" for arm in evidence.arms for seed in arm.crashed]
    if crashed:
        message = f"{words.count(len(crashed), 'run')} crashed and left no result: {words.listing(crashed)}"
        found.append(block("diverged", message, f"mend the cause, then {again}"))
    if evidence.num_unfinished:
        message = f"{words.count(evidence.num_unfinished, 'run')} of the design did not end, or were never begun"
        found.append(block("diverged", message, later))
    found += _worse_than_guessing(measured)
    if measured.best is not None:
        arm = measured.arm(measured.best)
        failures = sum(math.isinf(value) for value in arm.confirm.values())
        if failures:
            message = f"the best arm, {arm.name}, diverged on {failures} of {len(arm.confirm)} fresh seeds"
            found.append(block("diverged", message, "choose a smaller rate or add seeds to the search"))
    return found


def _worse_than_guessing(measured: Measured) -> list[Audit]:
    """Our own runs above that loss are only unstable, unless one of them may be the best."""
    limit = measured.evidence.guessing_loss
    if limit is None:
        return []
    suspects = range(len(measured.evidence.arms)) if measured.evidence.states_success else measured.unresolved
    worse = [measured.arm(i).name for i in suspects if _has_finite_above(measured, i, limit)]
    if not worse:
        return []
    message = (
        f"{words.listing(worse)} ended above {limit:.2f} nats, the loss of guessing uniformly, and count as success"
    )
    return [block("diverged", message, "count them as failed, and leave them out of what is claimed to be stable")]


def _has_finite_above(measured: Measured, index: int, limit: float) -> bool:
    return any(math.isfinite(value) and value > limit for value in measured.arm(index).search.values())


def dead_knob(measured: Measured) -> list[Audit]:
    """Arms that are equal to the last bit: what tells them apart was never read."""
    groups: dict[tuple[tuple[int, float], ...], list[str]] = {}
    for arm in measured.evidence.arms:
        finite = all(math.isfinite(value) for value in arm.search.values())
        exact = len(arm.search) >= 2 or any(value != round(value, ROUNDED_TO) for value in arm.search.values())
        if arm.search and finite and exact:
            groups.setdefault(tuple(sorted(arm.search.items())), []).append(arm.name)
    return [
        block(
            "dead-knob",
            f"{words.listing(names)} gave the same value to the last digit on every seed: one run under several names",
            "check that the trainer reads what varies, or keep one of them",
        )
        for names in groups.values()
        if len(names) > 1
    ]


def too_good(measured: Measured) -> list[Audit]:
    """A loss that the text does not allow."""
    limit = measured.evidence.entropy
    if limit is None:
        return []
    low = [
        arm.name
        for arm in measured.evidence.arms
        if any(value < BELOW_ENTROPY * limit for value in [*arm.search.values(), *arm.confirm.values()])
    ]
    if not low:
        return []
    message = (
        f"{words.listing(low)}: below {limit:.3f}, the entropy of the text; no model that sees only the past can be"
    )
    return [block("too-good", message, "look for validation text in training, or a model that sees the next token")]


def passes(measured: Measured) -> list[Audit]:
    """Training text seen more than once."""
    times = measured.evidence.passes
    if times is None or times <= 1:
        return []
    message = f"the longest run saw its training text {times:.2f} times; the best setting for fresh text may differ"
    return [warn("passes", message, "train on more text or fewer updates, or keep the claim to repeated text")]


def curse(measured: Measured) -> list[Audit]:
    """The best of several flatters itself on the seeds that chose it."""
    if measured.best is None or measured.arm(measured.best).confirm:
        return []
    message = "unconfirmed: the best arm's number is from the seeds that chose it, so it flatters itself"
    return [warn("curse", message, "run the best arm on fresh seeds (in a study: [seeds] confirm = 5)")]


def one_rate(measured: Measured) -> list[Audit]:
    """Schedules and architectures have best rates of their own; at one rate the rate is part of the difference."""
    differing = measured.evidence.at_one_rate
    if not differing:
        return []
    message = (
        f"arms that differ in {words.listing(differing)} were run at one learning rate; a difference may be the rate's"
    )
    return [warn("one-rate", message, 'let each arm have its own: [tune] "optimizer.muon.learning_rate" = [...]')]


def evaluation_set(measured: Measured) -> list[Audit]:
    """Losses measured on different tokens."""
    digests = {build.evaluation_digest for arm in measured.evidence.arms for build in arm.provenance} - {None}
    if len(digests) <= 1 or measured.evidence.metric.startswith("sets."):  # a named set is the same for all
        return []
    message = f"losses were measured on {len(digests)} different evaluation sets"
    return [block("eval-set", message, "evaluate every run on the same tokens")]


def drift(measured: Measured) -> list[Audit]:
    """Results of different builds, devices or precisions in one comparison."""
    builds = [build for arm in measured.evidence.arms for build in arm.provenance]
    kinds = {
        "trainer sources": {build.code_digest for build in builds},
        "torch versions": {build.torch for build in builds},
        "devices": {build.device for build in builds},
    }
    if "train.precision" not in measured.evidence.vary:  # else that difference is the question
        kinds["precisions"] = {build.precision for build in builds if build.precision is not None}
    mixed = [f"{len(values - {None})} {kind}" for kind, values in kinds.items() if len(values - {None}) > 1]
    if not mixed:
        return []
    message = f"the runs come from {words.listing(mixed)}; their numbers may differ for that reason alone"
    return [block("drift", message, "run all arms again with one build on one device, in a fresh store")]


AUDITS: dict[str, Callable[[Measured], list[Audit]]] = {
    "seeds": seeds,
    "diverged": diverged,
    "dead-knob": dead_knob,
    "too-good": too_good,
    "eval-set": evaluation_set,
    "drift": drift,
    "edge": edge,
    "passes": passes,
    "curse": curse,
    "one-rate": one_rate,
}
