"""Audits of runs trained elsewhere: what the further columns of their table show.

Each is a function of what was measured that returns its findings, silent where a column is missing; to add one,
write it and enter it in ROW_AUDITS.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from statistics import fmean

from blueberry.judge import words
from blueberry.judge.doctor.budget import EQUAL
from blueberry.judge.doctor.findings import block, warn
from blueberry.judge.doctor.limits import (
    DRIFT_NATS,
    LEAST_LOSS_NATS,
    MOST_ACCURACY,
    NEXT_TOKEN_ACCURACY,
    SAME_LOSS,
    is_in_order,
)
from blueberry.judge.evidence import RunFacts
from blueberry.judge.judgement import Audit
from blueberry.judge.measured import Measured

KNOWN_BY_HEART_NATS = 1.0
"""A training loss below this: text was memorised, whether or not somebody counted the passes."""
BELOW_TRAINING = 0.05
"""Relative: dropout raises the training loss, and it is measured before the update."""
_LENGTHS = re.compile(r"updates|steps|tokens|flops|epochs|horizon")
_BATCHES = re.compile(r"accumulation|batch")


def arithmetic(measured: Measured) -> list[Audit]:
    """Perplexities that are not exp(loss)."""
    wrong = [
        fact
        for fact in _facts(measured)
        if fact.val_loss is not None
        and fact.val_perplexity is not None
        and math.isfinite(fact.val_loss)
        and _is_not_exp(fact.val_loss, fact.val_perplexity)
    ]
    if not wrong:
        return []
    first = wrong[0]
    assert first.val_loss is not None
    right = f"{math.exp(first.val_loss):.5g}" if first.val_loss < 700 else "inf"
    message = (
        f"{first.place}: perplexity {first.val_perplexity:g} is not exp(loss {first.val_loss:g}) = {right}; "
        f"so in {words.count(len(wrong), 'run')}"
    )
    return [block("arithmetic", message, "compute perplexity as exp(loss) over all tokens, uncapped")]


def _is_not_exp(loss: float, perplexity: float) -> bool:
    """Whether a perplexity is not exp(loss), whatever the rounding hid of both."""
    if perplexity <= 0:
        return True
    hidden = _hidden(perplexity) / perplexity
    return abs(math.log(perplexity) - loss) > _hidden(loss) + hidden * (1 + hidden) + 1e-4 * abs(loss)


def _hidden(value: float) -> float:
    """Half a unit of the last digit it was given with; 32-bit numbers have no more than six."""
    digits = Decimal(repr(value)).as_tuple().exponent
    assert isinstance(digits, int)
    return max(0.5 * 10.0 ** min(digits, 0), 5e-4 * max(abs(value), 1.0))


def budget(measured: Measured) -> list[Audit]:
    """Arms that got more updates, tokens or FLOPs, though that is not what varies."""
    batches = [name for name in measured.evidence.vary if _BATCHES.search(name.lower())]
    if any(_LENGTHS.search(name.lower()) for name in measured.evidence.vary if name not in batches):
        return []
    spreads = {what: _spread(measured, what) for what in ("updates", "tokens", "flops")}
    if spreads["tokens"] is None and spreads["updates"] is None and batches:
        vary = "varies" if len(batches) == 1 else "vary"
        message = f"{words.listing(batches)} {vary}, so updates or tokens differ, and the table has a column of neither"
        return [block("budget", message, "add the columns updates and tokens, and give every arm the same")]
    unequal = {
        what: spread for what, spread in spreads.items() if spread is not None and spread[1] > spread[0] * (1 + EQUAL)
    }
    if not unequal:
        return []
    said = words.listing([f"{low:.4g} to {high:.4g} {what}" for what, (low, high) in unequal.items()])
    message = f"arms have {said}, and that is not what varies"
    if spreads["tokens"] is not None and "tokens" not in unequal:
        return [warn("budget", f"{message}; tokens are equal", "read the loss beside what differs")]
    return [block("budget", message, "compare arms of one length, or vary the length and say so")]


def _spread(measured: Measured, what: str) -> tuple[float, float] | None:
    """The least and the greatest mean of the arms' completed runs; None where an arm does not say."""
    means = []
    for arm in measured.evidence.arms:
        ended = [fact for fact in arm.facts or () if fact.value is not None and math.isfinite(fact.value)]
        known = [value for fact in ended if (value := getattr(fact, what)) is not None]
        if ended and len(known) < len(ended):
            return None
        if known:
            means.append(fmean(known))
    return (min(means), max(means)) if means else None


def evaluation_set(measured: Measured) -> list[Audit]:
    """Losses measured on different tokens, by the table's own word."""
    hashes = {fact.eval_hash for fact in _facts(measured) if fact.eval_hash is not None}
    if len(hashes) <= 1:
        return []
    message = f"losses were measured on {len(hashes)} different evaluation sets (eval_hash)"
    return [block("eval-set", message, "evaluate every run on the same tokens")]


def too_good(measured: Measured) -> list[Audit]:
    """Losses and accuracies that no text allows."""
    low = [
        fact
        for fact in _facts(measured)
        if (fact.val_accuracy or 0.0) > MOST_ACCURACY or (fact.val_loss is not None and fact.val_loss < LEAST_LOSS_NATS)
    ]
    if not low:
        return []
    first = low[0]
    said = [
        f"{name} {value:.4g}"
        for name, value in (("loss", first.val_loss), ("accuracy", first.val_accuracy))
        if value is not None
    ]
    message = f"{first.place}: validation {', '.join(said)}: text does not allow such a prediction"
    remedy = "look for validation text in training, and for a model that sees the next token"
    found = [block("too-good", message, remedy)]
    seeing = [fact for fact in low if NEXT_TOKEN_ACCURACY < (fact.val_accuracy or 0.0) < 1]
    if seeing:
        best = max(seeing, key=lambda fact: fact.val_accuracy or 0.0)
        assert best.val_accuracy is not None
        message = (
            f"{best.place}: accuracy {best.val_accuracy:.4f} leaves one token in {1 / (1 - best.val_accuracy):,.0f}, "
            "as of a model that sees the next token and misses a window's last"
        )
        found.append(block("future", message, "change token t + 1 and see whether the prediction at t changes"))
    return found


def leak(measured: Measured) -> list[Audit]:
    """Held-out text known better than text known by heart."""
    for fact in _facts(measured):
        if fact.train_loss is None or fact.val_loss is None or fact.train_loss > KNOWN_BY_HEART_NATS:
            continue
        if fact.val_loss < (1 - BELOW_TRAINING) * fact.train_loss:
            message = (
                f"{fact.place}: validation loss {fact.val_loss:.4g} is below training loss {fact.train_loss:.4g}, "
                "where training text is known by heart"
            )
            return [block("leak", message, "split documents, not windows, and look for validation text in training")]
    return []


def trivial(measured: Measured) -> list[Audit]:
    """One least accuracy at different losses: that of always saying the most frequent token."""
    known = [fact for fact in _facts(measured) if fact.val_accuracy is not None and fact.val_loss is not None]
    if not known:
        return []
    least = min(fact.val_accuracy or 0.0 for fact in known)
    same = [fact.val_loss or 0.0 for fact in known if math.isclose(fact.val_accuracy or 0.0, least, rel_tol=1e-6)]
    if max(same) - min(same) <= SAME_LOSS:
        return []
    losses = f"{min(same):.4g} and {max(same):.4g}"
    message = f"accuracy {least:.4g} at losses {losses}: that of always saying the most frequent token"
    return [warn("trivial", message, "do not count it as something learned, nor gains relative to it")]


def drift(measured: Measured) -> list[Audit]:
    """One arm with different results in two studies of the table."""
    arms = {arm.name: _by_study(arm.facts or ()) for arm in measured.evidence.arms}
    limit = _largest_by_chance([values for by_study in arms.values() for values in by_study.values()])
    for name, by_study in arms.items():
        means = sorted((fmean(values), study) for study, values in by_study.items())
        if len(means) >= 2 and means[-1][0] - means[0][0] > limit:
            message = (
                f"{name} ends at {means[0][0]:.4g} in {means[0][1]} and at {means[-1][0]:.4g} in {means[-1][1]}, "
                f"more than {limit:.2g} apart"
            )
            return [block("drift", message, "find what else differs between the studies; judge one of them")]
    return []


def _by_study(facts: Iterable[RunFacts]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for fact in facts:
        if fact.study is not None and fact.value is not None and math.isfinite(fact.value):
            found.setdefault(fact.study, []).append(fact.value)
    return found


def _largest_by_chance(groups: Iterable[Sequence[float]]) -> float:
    """3 sqrt 2 times the sd of one run, pooled within each arm of each study; DRIFT_NATS where none has two runs."""
    repeated = [values for values in groups if len(values) >= 2]
    freedom = sum(len(values) - 1 for values in repeated)
    squares = sum((value - fmean(values)) ** 2 for values in repeated for value in values)
    return 3 * math.sqrt(2 * squares / freedom) if squares > 0 else DRIFT_NATS


def clock(measured: Measured) -> list[Audit]:
    """Times that follow the rate, though a rate costs nothing."""
    axis = measured.axis
    if axis is None or not words.is_rate(axis.setting):
        return []
    times = [_mean(fact.train_seconds for fact in arm.facts or ()) for arm in measured.evidence.arms]
    known = [time for time in times if time is not None]
    if len(known) < len(times) or not is_in_order(known):
        return []
    message = f"times run from {known[0]:.4g} to {known[-1]:.4g} s along the rates, though a rate costs nothing"
    return [warn("clock", message, "run arms in random order, after a run that does not count")]


ROW_AUDITS: dict[str, Callable[[Measured], list[Audit]]] = {
    "too-good": too_good,
    "leak": leak,
    "eval-set": evaluation_set,
    "budget": budget,
    "drift": drift,
    "arithmetic": arithmetic,
    "trivial": trivial,
    "clock": clock,
}


def _facts(measured: Measured) -> list[RunFacts]:
    return [fact for arm in measured.evidence.arms for fact in arm.facts or ()]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
