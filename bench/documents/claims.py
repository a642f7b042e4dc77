"""What the documents claim, one by one, and how each is read off the judgement of a study of ours.

A claim is held against the verdicts of the judge, never against means: it holds where they show it, does not where they
show the contrary or that the difference is too small to matter, and else cannot be told.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from bench.documents.measured import Measured
from blueberry.judge import words
from blueberry.judge.judgement import Optimum, Verdict
from blueberry.stats.differences import mean_interval

LEAST_RUNS = 3
"""Without which nothing is said of how training went at some values, only of the runs there were."""

Outcome = Literal["holds", "does not hold", "cannot be told at this size"]
Shown = tuple[str, Outcome]
"""What the runs show, and what that makes of the claim."""


@dataclass(frozen=True)
class Claim:
    document: str
    says: str
    """In the document's words, or close to them."""
    where: str
    """Lines of the document."""
    study: str
    read: Callable[[Measured], Shown]


def _number(found: Measured, verdict: Verdict) -> str:
    judgement = found.judgement
    if verdict.difference is None:
        return "no difference could be measured"
    said = words.difference(verdict.difference, verdict.interval, judgement.metric, judgement.min_effect)
    more = verdict.more_seeds
    asked = f"; about {words.count(more, 'more seed')} would likely tell" if more else ""
    return f"{said}, {words.count(verdict.n, 'paired seed')}{asked}"


def _paired(found: Measured, weights: Mapping[tuple[str, str], int]) -> tuple[str, tuple[float, float]] | None:
    """A sum over arms, seed by seed: the mean in words, and its t interval; by the part and name of an arm."""
    runs = {
        (run.part, run.arm, run.seed): run.result.metric(found.judgement.metric)
        for run in found.runs
        if run.stage == "search" and run.result.status == "completed"
    }
    seeds = {seed for _, _, seed in runs if seed is not None}
    sums = []
    for seed in sorted(seeds):
        each = [(weight, runs.get((*arm, seed))) for arm, weight in weights.items()]
        if all(value is not None for _, value in each):
            sums.append(sum(weight * value for weight, value in each if value is not None))
    ends = mean_interval(sums, 1 - found.judgement.alpha)
    if ends is None:
        return None
    number = words.difference(fmean(sums), ends, found.judgement.metric, found.judgement.min_effect)
    return f"{number}, {words.count(len(sums), 'seed')}", ends


def _better(new: str, old: str) -> Callable[[Measured], Shown]:
    """Whether one arm is better than another: the claim's direction."""

    def read(found: Measured) -> Shown:
        verdict = found.judgement.verdict(old, new)
        if verdict is None:
            return f"{new} and {old} were not compared", "cannot be told at this size"
        said = f"{new} minus {old}: {_number(found, verdict)}"
        if verdict.winner == new:
            return said, "holds"
        if verdict.winner == old:
            return f"{said}: the contrary", "does not hold"
        if verdict.verdict == "tie":
            equal = f"equal within {found.judgement.min_effect:g}, by two one-sided tests at {found.judgement.alpha:g}"
            return f"{said}: {equal}", "does not hold"
        return said, "cannot be told at this size"

    return read


def _effect(change: str, claimed: str) -> Callable[[Measured], Shown]:
    """Whether a change, averaged over the others, lowers the loss."""

    def read(found: Measured) -> Shown:
        judgement = found.judgement
        effect = next(one for one in judgement.effects if one.changes == (change,))
        if effect.difference is None or effect.interval is None:
            return "the effect could not be estimated", "cannot be told at this size"
        number = words.difference(effect.difference, effect.interval, judgement.metric, judgement.min_effect)
        said = f"{claimed}: {number}, averaged over what else varies"
        for both in judgement.effects:
            if both.is_significant and both.difference is not None and len(both.changes) > 1 and change in both.changes:
                beyond = words.difference(both.difference, both.interval, judgement.metric, judgement.min_effect)
                other = next(name for name in both.changes if name != change)
                said += f"; with {other} it differs from without by {beyond}"
        if effect.is_significant:
            return said, "holds" if effect.difference < 0 else "does not hold"
        if max(map(abs, effect.interval)) < judgement.min_effect:
            return f"{said}: less than {judgement.min_effect:g} either way", "does not hold"
        return said, "cannot be told at this size"

    return read


def _located(read: Callable[[Measured, tuple[Optimum, ...]], Shown]) -> Callable[[Measured], Shown]:
    """Of a search, or of each of its conditions: nothing can be told unless every optimum was located."""

    def whole(found: Measured) -> Shown:
        each = {part.name: part.judgement for part in found.judgement.parts} or {"": found.judgement}
        optima = tuple(
            one.optimum for one in each.values() if isinstance(one.optimum, Optimum) and one.best is not None
        )
        if len(optima) == len(each):
            return read(found, optima)
        where = next(f"under {name} " if name else "" for name, one in each.items() if one.optimum not in optima)
        return f"{where}the optimum was not located", "cannot be told at this size"

    return whole


def _between(optimum: Optimum) -> str:
    low, high = map(words.setting_value, optimum.interval)
    return f"the optimum lies between {low} and {high}"


@_located
def _rate(found: Measured, optima: tuple[Optimum, ...]) -> Shown:
    (optimum,), best = optima, found.judgement.best
    assert best is not None
    said = (
        f"{_between(optimum)} (95%, if the curve is one smooth valley); "
        f"{best.arm} is recommended and ends at {best.mean:.3f} on {words.count(best.n, 'fresh seed')}"
    )
    inside = optimum.interval[0] <= 0.065 <= optimum.interval[1]
    said += "; 0.065 lies inside" if inside else "; 0.065 lies outside"
    return said, "holds" if inside else "does not hold"


def _too_low(limit: float) -> Callable[[Measured], Shown]:
    """Whether the judge advises against every rate below a limit."""

    def read(found: Measured) -> Shown:
        judgement, rates = found.judgement, found.study.axes[0].setting
        below = [arm for arm in judgement.arms if arm.settings[rates] < limit and arm.mean is not None]
        advised = next((one for one in judgement.purposes if one.purpose == "avoid" and one.arms), None)
        ends = "; ".join(f"{words.setting_value(arm.settings[rates])}: {arm.mean:.3f}" for arm in below)
        said = f"mean losses there: {ends or 'none'}"
        if advised is None or not below or any(arm.arm not in advised.arms for arm in below):
            return said, "cannot be told at this size"
        return f"{said}; each is {advised.evidence}", "holds"

    return read


def _unstable(limit: float) -> Callable[[Measured], Shown]:
    """Whether runs at every rate above a limit failed, spiked or lost their experts, or none did."""

    def read(found: Measured) -> Shown:
        judgement, rates = found.judgement, found.study.axes[0].setting
        said, signs, num_runs = [], set[bool](), 0
        for arm in judgement.arms:
            if arm.settings[rates] <= limit or not arm.n + arm.num_crashed:
                continue
            shown = [one.finding for one in judgement.findings if one.arm == arm.arm and one.finding in SIGNS]
            failed = arm.num_diverged + arm.num_crashed
            shown = [SIGNS[one] for one in shown] + ([f"{words.count(failed, 'run')} failed"] if failed else [])
            end = f"{arm.mean:.3f}, " if arm.mean is not None else ""
            runs = words.count(arm.n + arm.num_crashed, "run")
            said.append(
                f"{words.setting_value(arm.settings[rates])}: {end}{' and '.join(shown) or 'no such sign'}, {runs}"
            )
            signs.add(bool(shown))
            num_runs += arm.n + arm.num_crashed
        outcome = "cannot be told at this size"
        if len(signs) == 1 and num_runs >= LEAST_RUNS:
            outcome = "holds" if True in signs else "does not hold"
        return f"mean losses above {limit}, and signs of it: {'; '.join(said) or 'none'}", outcome

    return read


SIGNS = {"spikes": "spikes", "collapse": "experts out of use", "divergence": "divergence"}
"""Findings on curves that are called instability."""


@_located
def _moves(found: Measured, optima: tuple[Optimum, ...]) -> Shown:
    said = "; ".join(
        f"{part.name}: {words.setting_value(one.estimate)} [{', '.join(map(words.setting_value, one.interval))}]"
        for part, one in zip(found.judgement.parts, optima, strict=True)
    )
    first, last = optima[0].interval, optima[-1].interval
    apart = first[1] < last[0] or last[1] < first[0]
    said = f"the best rate, with its interval, at {said}"
    return said, "does not hold" if apart else "cannot be told at this size"


@_located
def _largest(found: Measured, optima: tuple[Optimum, ...]) -> Shown:
    (optimum,) = optima
    said = _between(optimum)
    if optimum.interval[0] > 0.003:
        said += "; a range up to 0.003 would have ended below it"
    return said, "holds" if optimum.interval[0] <= 0.003 <= optimum.interval[1] else "does not hold"


def _stack(found: Measured) -> Shown:
    stack, judgement = found.judgement.stack, found.judgement
    if stack is None:
        return "the sum could not be measured", "cannot be told at this size"
    together = words.difference(stack.difference, stack.interval, judgement.metric, judgement.min_effect)
    alone = words.difference(stack.sum_of_singles, stack.sum_interval, judgement.metric, judgement.min_effect)
    said = f"all four together {together}; the four alone add up to {alone}; {words.count(stack.n, 'seed')}"
    if stack.interval[1] < stack.sum_interval[0]:
        return said, "holds"
    return said, "does not hold" if stack.interval[0] > stack.sum_interval[1] else "cannot be told at this size"


def _beyond_the_sum(found: Measured) -> Shown:
    """Of the two changes of 004's first stage, at the rate that they were made at."""
    weights = {"combo_grad_dropout": 1, "baseline": 1, "grad_accum_2": -1, "dropout_05": -1}
    beyond = _paired(found, {("", arm): weight for arm, weight in weights.items()})
    if beyond is None:
        return "not measured on seeds enough", "cannot be told at this size"
    said = f"both together, beyond the sum of each alone: {beyond[0]}"
    if beyond[1][1] < 0:
        return said, "holds"
    return said, "does not hold" if beyond[1][0] > 0 else "cannot be told at this size"


def _leak(found: Measured) -> Shown:
    """The claim: that a validation loss as low as the training loss shows no overfitting."""
    overlapping, disjoint = found.judgement.parts
    said, lower = [], []
    for arm in (arm.arm for arm in overlapping.judgement.arms):
        gap = _paired(found, {(disjoint.name, arm): 1, (overlapping.name, arm): -1})
        ends = [
            found.mean(metric, arm, part=part.name)
            for part in (overlapping, disjoint)
            for metric in ("val_loss", "train_loss")
        ]
        if gap is None or None in ends:
            return f"{arm} was not measured under both splits", "cannot be told at this size"
        validation, training, honest, its_training = (f"{end:.3f}" for end in ends if end is not None)
        said.append(
            f"{arm}: validation {validation} beside training {training} as the document split the text, {honest} "
            f"beside {its_training} on whole documents kept out of training, higher by {gap[0]}"
        )
        lower.append(gap[1][0])
    blocked = sorted({audit.audit for audit in overlapping.judgement.blocks})
    said.append(f"the doctor blocks the first by {', '.join(blocked) or 'nothing'}")
    outcome = "does not hold" if min(lower) > found.judgement.min_effect else "cannot be told at this size"
    return "; ".join(said), outcome


def _held_out(found: Measured) -> Shown:
    """That fresh seeds say the same within what matters; the test set is other text, so its loss is only shown."""
    best, min_effect = found.judgement.best, found.judgement.min_effect
    if best is None or best.test_mean is None or best.interval is None or not best.confirmed:
        return "the test set was not measured", "cannot be told at this size"
    chosen = "as the fitted valley has it" if found.judgement.is_located else "on the seeds that chose it"
    fresh = words.metric_value(best.mean, best.interval, found.judgement.metric, min_effect)
    said = f"{best.arm}: {best.search_mean:.3f} {chosen}, {fresh} on {words.count(best.n, 'fresh seed')}; "
    said += f"{best.test_mean:.3f} on the test set, which is other text"
    low, high = best.interval[0] - best.search_mean, best.interval[1] - best.search_mean
    if -min_effect < low and high < min_effect:
        return said, "holds"
    return said, "does not hold" if low > 0 else "cannot be told at this size"


def _accumulation_at_equal_updates(found: Measured) -> Shown:
    verdict = found.judgement.verdict("baseline", "grad_accum_2")
    if verdict is None or verdict.difference is None or verdict.interval is None:
        return "not compared", "cannot be told at this size"
    blocked = sorted({audit.audit for audit in found.judgement.blocks})
    said = f"grad_accum_2 minus baseline: {_number(found, verdict)}"
    said += f" (blocked by {', '.join(blocked)}: it has half the tokens)" if blocked else ""
    if verdict.interval[0] > 0:
        return said, "does not hold"
    return said, "holds" if verdict.interval[1] < 0 else "cannot be told at this size"


def _routing(arms: tuple[str, ...]) -> Callable[[Measured], Shown]:
    """Nothing is claimed, only named as next: what the runs say of each."""

    def read(found: Measured) -> Shown:
        said, outcomes = [], set[str]()
        for arm in arms:
            text, outcome = _better(arm, "baseline")(found)
            said.append(text)
            outcomes.add(outcome)
        if outcomes == {"holds"}:
            return "; ".join(said), "holds"
        return "; ".join(said), "does not hold" if outcomes == {"does not hold"} else "cannot be told at this size"

    return read


def _best_is(arm: str) -> Callable[[Measured], Shown]:
    """Whether one arm is the best of all."""

    def read(found: Measured) -> Shown:
        judgement = found.judgement
        if judgement.best is None:
            return "no arm has a finite mean", "cannot be told at this size"
        open_, best = judgement.unresolved, judgement.best
        others = words.listing([name for name in open_ if name != best.arm], most=8)
        said = f"{best.arm} has the least mean, {best.search_mean:.3f}; the best may also be {others}"
        verdict = judgement.verdict(best.arm, arm)
        if verdict is not None and arm != best.arm:
            said += f"; {arm} minus {best.arm}: {_number(found, verdict)}"
        if open_ == (best.arm,):
            said = f"{best.arm} is the best, {best.search_mean:.3f}"
        if arm not in open_:
            return f"{said}; {arm} is not the best", "does not hold"
        return said, "holds" if open_ == (arm,) else "cannot be told at this size"

    return read


def _longer(found: Measured) -> Shown:
    said, outcome = [], "cannot be told at this size"
    for part in found.judgement.parts:
        verdict = part.judgement.verdict("baseline", "dropout_05")
        if verdict is not None:
            said.append(f"{part.name}, dropout_05 minus baseline: {_number(found, verdict)}")
        rising = [one.arm for one in part.judgement.findings if one.finding == "overfitting"]
        rose = f"rose in {words.listing(rising)}" if rising else "did not rise"
        said.append(f"while training went on, validation losses {rose}")
    last = found.judgement.parts[-1].judgement
    verdict = last.verdict("baseline", "dropout_05")
    if verdict is not None and verdict.winner == "dropout_05":
        outcome = "does not hold"
    elif verdict is not None and verdict.winner == "baseline":
        outcome = "holds"
    return "; ".join(said), outcome  # pyright: ignore[reportReturnType]


CLAIMS = (
    Claim("000", "0.065 is far better than 0.01", "24, 49", "000-before-after", _better("optimized", "baseline")),
    Claim(
        "001",
        "10% warmup with a floor of 5% is better than 5% with 10%",
        "17",
        "001-schedule",
        _better("warmup_10+floor_05", "baseline"),
    ),
    Claim("001", "10% warmup is better than 5%", "52", "001-schedule", _effect("warmup_10", "10% minus 5% warmup")),
    Claim(
        "001", "a floor of 5% is better than 10%", "57", "001-schedule", _effect("floor_05", "floor of 5% minus 10%")
    ),
    Claim("002", "0.065 is the optimal rate", "7, 249", "002-rates", _rate),
    Claim("002", "rates below 0.015 are too low", "209", "002-rates", _too_low(0.015)),
    Claim("002", "above 0.15 training is unstable", "168, 210", "002-rates", _unstable(0.15)),
    Claim("002", "above 0.4 training breaks down", "211", "002-rates", _unstable(0.4)),
    Claim("002", "the best rate of 80 steps is the one for production", "196", "002-horizon", _moves),
    Claim("003", "3e-3 is optimal, and the range covers what matters", "77, 97", "003-search", _largest),
    Claim("003", "a validation loss of 0.015 with no sign of overfitting", "39, 83", "003-leak", _leak),
    Claim("003", "(next) the chosen rate's loss is confirmed by what chose nothing", "114", "003-search", _held_out),
    Claim(
        "004",
        "accumulation 2 is better than 4 (as there: equal tokens, twice the updates)",
        "106",
        "004-ablation",
        _better("grad_accum_2", "baseline"),
    ),
    Claim(
        "004",
        "(beside it) so it is at equal updates, half the tokens",
        "106",
        "004-accumulation",
        _accumulation_at_equal_updates,
    ),
    Claim("004", "dropout of 0.05 is better than 0.10", "111", "004-stack", _effect("dropout", "0.05 minus 0.10")),
    Claim(
        "004",
        "combo_grad_dropout is better than the baseline",
        "27",
        "004-ablation",
        _better("combo_grad_dropout", "baseline"),
    ),
    Claim(
        "004",
        "5% warmup is better than 10% (as there: with a floor of 5%)",
        "118",
        "004-schedule",
        _better("cosine_warmup_05", "baseline"),
    ),
    Claim("004", "cosine_warmup_05 is the best of eight schedules", "42", "004-schedule", _best_is("cosine_warmup_05")),
    Claim("004", "accumulation and dropout exceed the sum of each", "121, 123", "004-ablation", _beyond_the_sum),
    Claim("004", "(all documents) the four changes exceed the sum of each", "121, 123", "004-stack", _stack),
    Claim("004", "less dropout is worse in longer runs (to be monitored)", "113, 134", "004-longer", _longer),
    Claim(
        "004",
        "(next) one or four experts for a token are better than two",
        "151",
        "004-routing",
        _routing(("top_1", "top_4")),
    ),
    Claim("004", "(next) sixteen experts are better than eight", "151", "004-routing", _routing(("experts_16",))),
    Claim(
        "004",
        "(next) another router, or no balancing, is better",
        "151",
        "004-routing",
        _routing(("softmax_before", "bias_balanced", "no_balancing")),
    ),
)
"""In the order of the page."""


def held_against(measured: Mapping[str, Measured | None]) -> list[tuple[Claim, str, str]]:
    """Each claim with what the runs show and the verdict."""
    rows = []
    for claim in CLAIMS:
        found = measured[claim.study]
        said, outcome = ("", "not yet measured") if found is None else claim.read(found)
        rows.append((claim, said, outcome))
    return rows
