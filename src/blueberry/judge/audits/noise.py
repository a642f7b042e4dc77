"""Audits of what noise a claim rests on: are there runs enough to know it, is what was borrowed theirs, and is what
matters far above it?"""

import math
from collections.abc import Sequence

from blueberry.judge import words
from blueberry.judge.audits import block, warn
from blueberry.judge.effects import find_pooled
from blueberry.judge.judgement import LEAST_BLOCKS, Audit
from blueberry.judge.measured import Measured
from blueberry.stats.noise import Borrowed

TOO_FEW = "no difference can be told from chance"
"""What is said where runs are too few: it speaks against differences of arms, and against nothing else."""
MOST_SPREADS = 3.0
"""Of one run's sd, that the smallest difference which matters may be without a word."""


def too_few(measured: Measured) -> list[Audit]:
    """A valley is read from all runs together, however few each value has; single runs can be judged by borrowed
    noise."""
    evidence, borrowed = measured.evidence, measured.evidence.borrowed
    if measured.located is not None:
        return []
    if borrowed is not None:
        return _not_theirs(measured, borrowed)
    looked = measured.race is None or measured.race.taken
    one, short = "seed" if evidence.is_seeded else "run", f"fewer than {LEAST_BLOCKS}"
    numbers = [len(arm.search) for arm in evidence.arms]
    asked = [len(arm.search) for arm in evidence.arms if all(map(math.isfinite, arm.search.values()))] or numbers
    if looked and sum(number >= LEAST_BLOCKS for number in asked) < min(len(asked), 2):
        what = (
            f"arms ended on {_range(numbers, one)} each"
            if evidence.is_seeded
            else f"arms have {_range(numbers, one)} each"
        )
        each = (
            f"run every arm on at least {LEAST_BLOCKS} seeds"
            if evidence.is_seeded
            else f"run every arm {LEAST_BLOCKS} times"
        )
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
    few = [
        arm for arm in evidence.arms if len(arm.search) < LEAST_BLOCKS and all(map(math.isfinite, arm.search.values()))
    ]
    if not few or not looked:
        return []
    numbers = _range([len(arm.search) for arm in few], one)
    message = f"{words.listing([arm.name for arm in few])}: {numbers}; with {short} an arm is told from no other"
    return [
        warn(
            "seeds",
            message,
            f"run it on at least {LEAST_BLOCKS} seeds"
            if len(few) == 1
            else f"run each on at least {LEAST_BLOCKS} seeds",
        )
    ]


def _not_theirs(measured: Measured, borrowed: Borrowed) -> list[Audit]:
    """Runs that scatter more than the noise that was borrowed for them, as one in a hundred would by chance.

    Source: a chi-squared test of the pooled variance; an F test where the borrowed one was itself measured.
    """
    from scipy.special import chdtrc, fdtrc

    runs = measured.noise.runs
    df = float(runs.df_K.sum()) * runs.counts_for
    if df < 1:
        return []
    pooled = float(runs.df_K @ runs.variances_K) / float(runs.df_K.sum())
    ratio = pooled / borrowed.sd**2
    p = float(chdtrc(df, df * ratio) if math.isinf(borrowed.df) else fdtrc(df, borrowed.df, ratio))
    if p > 0.01:
        return []
    message = (
        f"runs of one arm scatter by {math.sqrt(pooled):.2g} here, more than the {borrowed.sd:.2g} borrowed for them"
    )
    return [warn("seeds", message, "borrow the noise of runs like these, or judge them by their own")]


def min_effect(measured: Measured) -> list[Audit]:
    """A table's smallest difference that matters, far above how runs scatter: much that is real counts as equal."""
    evidence, noise = measured.evidence, measured.noise
    sd = evidence.borrowed.sd if evidence.borrowed else noise.sd
    if evidence.source != "table" or not sd or evidence.min_effect <= MOST_SPREADS * sd:
        return []
    times = f"{evidence.min_effect / sd:.2g} times what runs of one arm scatter by ({sd:.2g})"
    message = f"min_effect {evidence.min_effect:g} is {times}, so differences that are easily seen are called ties"
    return [warn("min-effect", message, f"state what matters to you, such as half of that: --min-effect {sd / 2:.2g}")]


def _range(numbers: Sequence[int], noun: str) -> str:
    """e.g. "10 runs", "3 to 5 seeds"."""
    low, high = min(numbers, default=0), max(numbers, default=0)
    return words.count(low, noun) if low == high else f"{low} to {high} {noun}s"
