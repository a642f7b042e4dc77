"""Audits: ways in which runs that have ended, our own and others', would not support the claim. What is looked for in
what a comparison rests on is in `comparisons`, in designs and schedules in `design`.

An audit is a function of what was measured that returns its findings, silent where what it looks at is not known; to
add one, write it and enter it in AUDITS.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

from blueberry.judge import words
from blueberry.judge.audits.comparisons import (
    budget,
    confounded,
    drift,
    edge,
    evaluation_set,
    min_effect,
    not_theirs,
    valley,
)
from blueberry.judge.effects import find_pooled
from blueberry.judge.evidence import ArmRuns, Measured, RunFacts
from blueberry.judge.judgement import LEAST_BLOCKS, Audit, block, blocking_first, warn
from blueberry.tables.columns import is_loss, words_in

TOO_FEW = "no difference can be told from chance"
"""What is said where runs are too few: it speaks against differences of arms, and against nothing else."""
BELOW_TRAINING = 0.05
"""Relative, of a validation loss: dropout raises the training loss, and it is measured before the update."""
BELOW_ENTROPY = 0.97
"""A fixed evaluation set is a sample: by chance alone its loss stays within 3% of the expectation."""
ROUNDED_TO = 6
"""Equal values with more decimals than this are no coincidence, even on one seed."""
BY_CHANCE = 1e-3
"""Of rounded values being equal on every seed: what is likelier is no finding."""
MOST_ACCURACY = 0.9
"""No model of natural text predicts so many tokens."""
LEAST_LOSS_NATS = 0.3
"""Per token. Natural text has 0.6 to 1.3 bits a letter (Shannon 1951), so 0.4 nats even where a token is a letter."""
LEAST_BITS_PER_BYTE = 0.3
"""Half of the least that Shannon found."""
NEXT_TOKEN_ACCURACY = 0.98
"""All but the last token of a window or so: what a model that sees the next token reaches."""
SAME_LOSS = 0.1
"""Nats: losses further apart are of two different models."""
CLOCK = 0.05
"""Relative resolution that times must have to be compared."""
LEAST_TIMES = 8
ONE_IN_A_HUNDRED = 2.576
KNOWN_BY_HEART_NATS = 1.0
"""A training loss below this: text was memorised, whether or not somebody counted the passes."""
LEAST_RANKED = 5
"""Arms whose order says something."""
UNSEEN_DIGITS = 5e-4
"""Relative, of a number: 32 bits hold no more."""


def audit(measured: Measured) -> tuple[Audit, ...]:
    """Every finding of every audit, blocking ones first."""
    found = [finding for look in AUDITS.values() for finding in look(measured)]
    return blocking_first([*measured.evidence.audits, *found])


def seeds(measured: Measured) -> list[Audit]:
    """Too few runs, one seed several times, seeds that change nothing, or a borrowed noise that is not theirs."""
    evidence, found = measured.evidence, too_few(measured)
    if evidence.repeated_seeds:
        message = f"{words.listing(evidence.repeated_seeds)}: one seed value more than once; a repeat is no new block"
        found.append(block("seeds", message, "give each run of an arm its own seed, or leave the repeats out"))
    repeated = [arm for arm in evidence.arms if sum(math.isfinite(v) for v in arm.search.values()) >= 2]
    is_coarse = (_half(measured) or 0.0) > UNSEEN_DIGITS
    if repeated and not is_coarse and all(len(set(arm.search.values())) == 1 for arm in repeated):
        message = "every seed gives the same value, so the seed changes nothing and n is 1"
        found.append(block("seeds", message, "make the trainer read the seed"))
    return found


def too_few(measured: Measured) -> list[Audit]:
    """A valley is read from all runs together, however few each value has; single runs can be judged by borrowed
    noise."""
    evidence, borrowed = measured.evidence, measured.evidence.borrowed
    if measured.located is not None:
        return []
    if borrowed is not None:
        return not_theirs(measured, borrowed)
    looked = measured.race is None or measured.race.taken
    one, short = "seed" if evidence.is_seeded else "run", f"fewer than {LEAST_BLOCKS}"
    numbers = [len(arm.search) for arm in evidence.arms]
    asked = [len(arm.search) for arm in evidence.arms if arm.is_finite] or numbers
    if looked and sum(number >= LEAST_BLOCKS for number in asked) < min(len(asked), 2):
        what = f"arms {'ended on' if evidence.is_seeded else 'have'} {_range(numbers, one)} each"
        often = f"on at least {LEAST_BLOCKS} seeds" if evidence.is_seeded else f"{LEAST_BLOCKS} times"
        each = f"run every arm {often}"
        remedy = f"{each}, or say how such runs scatter (--sigma)" if evidence.source == "table" else each
        if find_pooled(measured) is not None:
            message = f"{what}: no arm is told from another, and main effects only with the interactions as noise"
            return [warn("seeds", message, each)]
        if evidence.loop is not None:
            message = f"the table of a loop that keeps and discards changes: {what}, so no change is told best"
            remedy = f"ask of the loop as a whole which of its keeps stand: blueberry judge {evidence.loop}"
            return [block("seeds", message, remedy)]
        message = f"{what}, and with {short} {TOO_FEW}"
        return [block("seeds", message, remedy)]
    few = [arm for arm in evidence.arms if len(arm.search) < LEAST_BLOCKS and arm.is_finite]
    if not few or not looked:
        return []
    numbers = _range([len(arm.search) for arm in few], one)
    message = f"{words.listing([arm.name for arm in few])}: {numbers}; with {short} an arm is told from no other"
    run = "run it" if len(few) == 1 else "run each"
    return [warn("seeds", message, f"{run} on at least {LEAST_BLOCKS} seeds")]


def _range(numbers: Sequence[int], noun: str) -> str:
    """e.g. "10 runs", "3 to 5 seeds"."""
    low, high = min(numbers, default=0), max(numbers, default=0)
    return words.count(low, noun) if low == high else f"{low} to {high} {noun}s"


def diverged(measured: Measured) -> list[Audit]:
    """Runs without a result, but for changes of a loop, which ends with them; or counted as a success above the loss
    of guessing."""
    evidence, found = measured.evidence, []
    again, later = "run the study again; only these are repeated", "run the study again; what is done is kept"
    if evidence.source == "table":  # there is no study to run again
        again, later = "make these runs again and enter their numbers", "enter their numbers when they have"
    crashed = [f"{arm.name} (seed {s})" if s >= 0 else arm.name for arm in evidence.arms for s in arm.crashed]
    if crashed and evidence.loop is None:
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
    elif evidence.arms and all(arm.search and all(map(math.isinf, arm.search.values())) for arm in evidence.arms):
        message = "every run diverged, so there is nothing to compare"
        found.append(warn("diverged", message, "lower the rates, or change what diverges"))
    claimed = [one for arm in evidence.arms for one in arm.facts if one.value is not None and math.isinf(one.value)]
    if evidence.states_success and claimed:
        what, where = words.count(len(claimed), "run"), words.listing([_where(one, "") for one in claimed])
        message = f"{what} without a finite number of {evidence.metric}, taken as diverged: {where}"
        found.append(warn("diverged", message, "say in the status how they ended, or enter their numbers"))
    return found


def _worse_than_guessing(measured: Measured) -> list[Audit]:
    """Our own runs above that loss are only unstable, unless one of them may be the best."""
    limit = measured.evidence.guessing_loss
    if limit is None:
        return []
    suspects = range(len(measured.evidence.arms)) if measured.evidence.states_success else measured.unresolved
    arms = [measured.arm(index) for index in suspects]
    worse = [arm.name for arm in arms if any(limit < value < math.inf for value in arm.search.values())]
    if not worse:
        return []
    what = f"above {limit:.2f} nats, the loss of guessing uniformly"
    message = f"{words.listing(worse)} ended {what}, and count as success"
    return [block("diverged", message, "count them as failed, and leave them out of what is claimed to be stable")]


def dead_knob(measured: Measured) -> list[Audit]:
    """Arms that are equal to the last bit: what tells them apart was never read."""
    arms = [arm for arm in measured.evidence.arms if arm.search and arm.is_finite]
    groups: dict[tuple[Any, ...], list[ArmRuns]] = {}
    for arm in arms:
        values = arm.search.items() if measured.evidence.is_seeded else arm.search.values()
        groups.setdefault(tuple(sorted(values)), []).append(arm)
    alike = [group for group in groups.values() if len(group) > 1]
    if not alike:
        return []
    grid = _grid(measured)
    num_pairs = len(arms) * (len(arms) - 1) / 2
    found = []
    for group in alike:
        values = list(group[0].search.values())
        if len(values) == 1 and (grid or values[0] == round(values[0], ROUNDED_TO)):
            continue
        if grid and num_pairs * _chance_of_a_tie(measured, grid) ** len(values) > BY_CHANCE:
            continue
        names = words.listing([arm.name for arm in group])
        message = f"{names} gave the same value to the last digit on every seed: one run under several names"
        remedy = "check that the trainer reads what varies, or keep one of them"
        found.append(block("dead-knob", message, remedy))
    return found


def _grid(measured: Measured) -> float:
    """The unit that values were rounded to, printed or read off a picture; 0 where there is none."""
    values = sorted({value for arm in measured.evidence.arms for value in arm.search.values() if math.isfinite(value)})
    printed = 2 * (_half(measured) or 0.0)
    gaps = [b - a for a, b in itertools.pairwise(values)]
    unit = min(gaps, default=0.0)
    if len(gaps) >= 4 and unit > 0 and all(abs(gap / unit - round(gap / unit)) < 0.05 for gap in gaps):
        return max(printed, unit)
    return printed


def _chance_of_a_tie(measured: Measured, grid: float) -> float:
    """That two arms of one mean have one rounded value on one seed."""
    sd = measured.noise.paired_sd
    return min(1.0, grid / (sd * math.sqrt(2 * math.pi))) if sd else 1.0


def _half(measured: Measured) -> float | None:
    """Half a unit of the last digit of the metric; None where it was not rounded."""
    halves = [one.digits.get(measured.evidence.metric) for one in measured.facts]
    known = [half for half in halves if half is not None]
    return max(known) if known and len(known) == len(halves) else None


def too_good(measured: Measured) -> list[Audit]:
    """Losses and accuracies that no text allows."""
    evidence, found = measured.evidence, []
    is_a_loss = is_loss(evidence.metric) and evidence.goal == "minimize"  # else its values have the other sign here
    is_above = 1.0 if words_in(evidence.metric)[-1:] in (["perplexity"], ["ppl"]) else 0.0
    every = [(arm.name, value) for arm in evidence.arms for value in arm.values]
    none = [(name, value) for name, value in every if is_a_loss and value <= is_above and math.isfinite(value)]
    if none:
        names, least = dict.fromkeys(name for name, _ in none), min(value for _, value in none)
        message = f"{words.listing(list(names))}: {evidence.metric} of {least:.4g}; no model of text has one so low"
        found.append(block("too-good", message, "look for a measurement that is missing and stands as 0"))
    limit = evidence.entropy
    if limit is not None:
        if low := list(dict.fromkeys(name for name, value in every if value < BELOW_ENTROPY * limit)):
            what = f"below {limit:.3f}, the entropy of the text; no model that sees only the past can be"
            remedy = "look for validation text in training, or a model that sees the next token"
            found.append(block("too-good", f"{words.listing(low)}: {what}", remedy))
        return found
    is_of_text = evidence.is_of_text and (is_a_loss or not is_loss(evidence.metric))
    low = [(arm, one) for arm, one in _by_arm(measured) if is_of_text and _is_too_good(one)]
    if low and not none:
        arm, first = low[0]
        seen = {"loss": first.val_loss, "bits per byte": first.val_bits_per_byte, "accuracy": first.val_accuracy}
        said = ", ".join(f"{name} {value:.4g}" for name, value in seen.items() if value is not None)
        message = f"{_where(first, arm)}: validation {said}: text does not allow such a prediction"
        remedy = "look for validation text in training, and for a model that sees the next token"
        found.append(block("too-good", message, remedy))
    return found


def future(measured: Measured) -> list[Audit]:
    """All but the last token of a window is right: a model that sees the next one."""
    seeing = [(arm, one) for arm, one in _by_arm(measured) if NEXT_TOKEN_ACCURACY < (one.val_accuracy or 0.0) < 1]
    if not seeing:
        return []
    arm, best = max(seeing, key=lambda one: one[1].val_accuracy or 0.0)
    assert best.val_accuracy is not None
    message = (
        f"{_where(best, arm)}: accuracy {best.val_accuracy:.4f} leaves one token in "
        f"{1 / (1 - best.val_accuracy):,.0f}, as of a model that sees the next token and misses a window's last"
    )
    return [block("future", message, "change token t + 1 and see whether the prediction at t changes")]


def _is_too_good(one: RunFacts) -> bool:
    of_text = one.val_loss is not None or one.val_bits_per_byte is not None  # a classifier may well be right so often
    return (
        (of_text and (one.val_accuracy or 0.0) > MOST_ACCURACY)
        or (one.val_loss is not None and one.val_loss < LEAST_LOSS_NATS)
        or (one.val_bits_per_byte is not None and one.val_bits_per_byte < LEAST_BITS_PER_BYTE)
    )


def leak(measured: Measured) -> list[Audit]:
    """Held-out text known better than text known by heart."""
    for arm, one in _by_arm(measured):
        if one.train_loss is None or one.val_loss is None or one.train_loss > KNOWN_BY_HEART_NATS:
            continue
        if 0 < one.val_loss < (1 - BELOW_TRAINING) * one.train_loss:
            message = (
                f"{_where(one, arm)}: validation loss {one.val_loss:.4g} is below training loss {one.train_loss:.4g}, "
                "where training text is known by heart"
            )
            return [block("leak", message, "split documents, not windows, and look for validation text in training")]
    return []


def overfitting(measured: Measured) -> list[Audit]:
    """A ranking of how little was learned by heart: arms better on training text are worse on held-out text."""
    for what, low, high, sign in (
        *((what, "lower", "higher", 1) for what in ("loss", "perplexity")),
        ("accuracy", "higher", "lower", -1),
    ):
        means = [
            (sign * fmean(train), sign * fmean(held_out))
            for arm in measured.evidence.arms
            if (train := _known(arm.facts, f"train_{what}")) and (held_out := _known(arm.facts, f"val_{what}"))
        ]
        if what == "accuracy":  # in percent or as fractions
            means = [tuple(one / 100 if one < -1 else one for one in pair) for pair in means]
        if len(means) < LEAST_RANKED or not all(train < held_out for train, held_out in means):
            continue
        correlation = rank_correlation([held_out for _, held_out in sorted(means)])
        if correlation > -ONE_IN_A_HUNDRED / math.sqrt(len(means) - 1) and correlation > -0.9:
            continue
        message = (
            f"arms of {low} training {what} have {high} validation {what} (rank correlation {correlation:.2f} over "
            f"{len(means)} arms): the ranking is of overfitting"
        )
        return [warn("overfitting", message, "compare arms each at its own best length or regularization")]
    return []


def arithmetic(measured: Measured) -> list[Audit]:
    """Perplexities that are not exp(loss), within what rounding hides of both."""
    known = [(arm, one, one.val_loss, one.val_perplexity) for arm, one in _by_arm(measured)]
    wrong = [
        (arm, one, loss, perplexity)
        for arm, one, loss, perplexity in known
        if loss is not None and perplexity is not None and _contradicts(one, loss, perplexity)
    ]
    if not wrong:
        return []
    arm, first, loss, perplexity = wrong[0]
    right = f"{math.exp(loss):.5g}" if loss < 700 else "inf"
    message = (
        f"{_where(first, arm)}: perplexity {perplexity:g} is not exp(loss {loss:g}) = {right}; "
        f"so in {words.count(len(wrong), 'run')}"
    )
    return [block("arithmetic", message, "compute perplexity as exp(loss) over all tokens, uncapped")]


def _contradicts(one: RunFacts, loss: float, perplexity: float) -> bool:
    if perplexity <= 0:
        return True
    half = {
        name: max(one.digits.get(name, 0.0), UNSEEN_DIGITS * max(abs(value), 1.0))
        for name, value in (("val_loss", loss), ("val_perplexity", perplexity))
    }
    hidden = half["val_perplexity"] / perplexity
    return abs(math.log(perplexity) - loss) > half["val_loss"] + hidden * (1 + hidden) + 1e-4 * abs(loss)


def trivial(measured: Measured) -> list[Audit]:
    """One least accuracy at different losses: that of always saying the most frequent token."""
    known = [one for one in measured.facts if one.val_accuracy is not None and one.val_loss is not None]
    if not known:
        return []
    least = min(one.val_accuracy or 0.0 for one in known)
    same = [one.val_loss or 0.0 for one in known if math.isclose(one.val_accuracy or 0.0, least, rel_tol=1e-6)]
    if max(same) - min(same) <= SAME_LOSS:
        return []
    losses = f"{min(same):.4g} and {max(same):.4g}"
    message = f"accuracy {least:.4g} at losses {losses}: that of always saying the most frequent token"
    return [warn("trivial", message, "do not count it as something learned, nor gains relative to it")]


def clock(measured: Measured) -> list[Audit]:
    """Times that follow the rate, though a rate costs nothing."""
    axis = measured.sweep
    if axis is None or not words.is_rate(axis.setting):
        return []
    times = [_known(arm.facts, "train_seconds") for arm in measured.evidence.arms]
    if not all(times) or not is_in_order(known := [fmean(some) for some in times]):
        return []
    message = f"times run from {known[0]:.4g} to {known[-1]:.4g} s along the rates, though a rate costs nothing"
    return [warn("clock", message, "run arms in random order, after a run that does not count")]


def passes(measured: Measured) -> list[Audit]:
    """Training text seen more than once."""
    times = measured.evidence.passes
    if times is None or times <= 1:
        return []
    message = f"the longest run saw its training text {times:.2f} times; the best setting for fresh text may differ"
    return [warn("passes", message, "train on more text or fewer updates, or keep the claim to repeated text")]


def curse(measured: Measured) -> list[Audit]:
    """The best of several flatters itself on the seeds that chose it; what a loop keeps, `blueberry judge` weighs."""
    best, evidence = measured.best, measured.evidence
    if evidence.loop is not None or best is None or measured.arm(best).confirm or len(evidence.arms) < 2:
        return []
    message = "unconfirmed: the best arm's number is from the seeds that chose it, so it flatters itself"
    return [warn("curse", message, "run the best arm on fresh seeds (in a study: [seeds] confirm = 5)")]


def one_rate(measured: Measured) -> list[Audit]:
    """Schedules and architectures have best rates of their own; at one rate the rate is part of the difference."""
    differing = measured.evidence.at_one_rate
    if not differing:
        return []
    what = f"arms that differ in {words.listing(differing)} were run at one learning rate"
    message = f"{what}; a difference may be the rate's"
    return [warn("one-rate", message, 'let each arm have its own: [tune] "optimizer.muon.learning_rate" = [...]')]


AUDITS: dict[str, Callable[[Measured], list[Audit]]] = {
    "seeds": seeds,
    "confounded": confounded,
    "diverged": diverged,
    "dead-knob": dead_knob,
    "too-good": too_good,
    "future": future,
    "leak": leak,
    "eval-set": evaluation_set,
    "budget": budget,
    "drift": drift,
    "arithmetic": arithmetic,
    "edge": edge,
    "valley": valley,
    "passes": passes,
    "curse": curse,
    "min-effect": min_effect,
    "one-rate": one_rate,
    "overfitting": overfitting,
    "trivial": trivial,
    "clock": clock,
}


def is_in_order(times: Sequence[float]) -> bool:
    """Whether times of runs that should cost the same follow the order they are given in: eight or more of them,
    more than CLOCK apart, with a rank correlation that chance gives once in a hundred."""
    if len(times) < LEAST_TIMES or max(times) < (1 + CLOCK) * min(times):
        return False
    return abs(rank_correlation(times)) > ONE_IN_A_HUNDRED / math.sqrt(len(times) - 1)


def rank_correlation(values: Sequence[float]) -> float:
    """Spearman's, of values with their places; ties have their mean rank."""
    ranks = [sum(other < one for other in values) + (sum(other == one for other in values) - 1) / 2 for one in values]
    middle = (len(values) - 1) / 2
    covariance = sum((place - middle) * (rank - middle) for place, rank in enumerate(ranks))
    spread = math.sqrt(sum((rank - middle) ** 2 for rank in ranks) * sum((p - middle) ** 2 for p in range(len(values))))
    return covariance / spread if spread else 0.0


def _by_arm(measured: Measured) -> Iterator[tuple[str, RunFacts]]:
    return ((arm.name, one) for arm in measured.evidence.arms for one in arm.facts)


def _known(facts: Iterable[RunFacts], name: str) -> list[float]:
    return [value for one in facts if (value := getattr(one, name)) is not None]


def _where(one: RunFacts, arm: str) -> str:
    """Where a run stands: its place in a file, else its arm and seed."""
    return one.place or (f"{arm}, seed {one.seed}" if one.seed is not None else arm)
