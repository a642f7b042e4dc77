"""Audits of what a comparison rests on: do arms differ in what varies and in nothing else, is borrowed noise theirs,
does the range of a setting end too early, and is the curve a valley?"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median, stdev
from typing import Any

import numpy as np

from blueberry.judge import words
from blueberry.judge.evidence import ArmRuns, Measured, RunFacts, expected_at, numbers_of
from blueberry.judge.judgement import Audit, block, warn
from blueberry.records import is_number
from blueberry.stats.differences import paired, t_quantile
from blueberry.stats.noise import Borrowed
from blueberry.stats.robustness import exchange
from blueberry.tables.columns import is_evaluated_on, is_tokens, kind_by_name, same_name, words_in
from blueberry.tables.progress import says_the_batch, updates_of

EQUAL = 0.01
"""Budgets that differ by no more than this share are equal."""
LEAST_AXIS_VALUES = 3
"""Fewer values of a setting are a comparison, not a range with ends and gaps."""
Span = tuple[float, float]
"""The least and the most of something, over the runs of an arm."""
DRIFT_NATS = 0.13
"""3 sqrt 2 times .03 nats, the noise of runs of a few updates; longer runs have less. Where nothing was measured."""
COMMON = frozenset(("min", "max", "num", "n", "base", "peak", "size", "rate", "ratio", "kind", "type"))
"""Words that names of different things share."""


def evaluation_set(measured: Measured) -> list[Audit]:
    """Losses measured on different tokens."""
    arms = measured.evidence.arms
    amounts = [name for name in _settings_of(arms) if is_evaluated_on(name) and _differs_between(arms, name)]
    digests = {build.evaluation_digest for arm in measured.evidence.arms for build in arm.provenance} - {None}
    if not amounts and (len(digests) <= 1 or measured.evidence.metric.startswith("sets.")):  # the same for all
        return []
    message = f"losses were measured on {len(digests)} different evaluation sets"
    if amounts:
        message = f"losses were measured on unlike amounts of text: {_who_has(arms, amounts[0])}"
    elif measured.evidence.source == "table":
        message += " (eval_hash)"
    return [block("eval-set", message, "evaluate every run on the same tokens")]


def drift(measured: Measured) -> list[Audit]:
    """Results of different builds, devices or precisions; one arm that differs between two studies."""
    builds = [build for arm in measured.evidence.arms for build in arm.provenance]
    made: dict[str, set[str | None]] = {
        "trainer sources": {build.code_digest for build in builds},
        "torch versions": {build.torch for build in builds},
        "devices": {build.device for build in builds},
    }
    if "train.precision" not in measured.evidence.vary:  # else that difference is the question
        made["precisions"] = {build.precision for build in builds}
    mixed = [f"{len(values - {None})} {kind}" for kind, values in made.items() if len(values - {None}) > 1]
    found, remedy = [], "run all arms again with one build on one device"
    if mixed:
        message = f"the runs come from {words.listing(mixed)}; their numbers may differ for that reason alone"
        found.append(block("drift", message, f"{remedy}, in a fresh store"))
    built = [
        replace(arm, facts=tuple(replace(one, settings=one.builds) for one in arm.facts))
        for arm in measured.evidence.arms
    ]
    names = [name for name in _settings_of(built) if _differs_between(built, name) and not _is_copy(built, name)]
    found += [block("drift", f"{_who_has(built, name)}: numbers may differ for that alone", remedy) for name in names]
    arms = {arm.name: _by_study(arm.facts) for arm in measured.evidence.arms}
    if _are_blocks(measured):
        return found
    limit = _largest_by_chance([values for by_study in arms.values() for values in by_study.values()])
    for name, by_study in arms.items():
        means = sorted((fmean(values), study) for study, values in by_study.items())
        if len(means) >= 2 and means[-1][0] - means[0][0] > limit:
            message = (
                f"{name} ends at {means[0][0]:.4g} in {means[0][1]} and at {means[-1][0]:.4g} in {means[-1][1]}, "
                f"more than {limit:.2g} apart"
            )
            found.append(block("drift", message, "find what else differs between the studies; judge one of them"))
            break
    return found


def _are_blocks(measured: Measured) -> bool:
    """Whether studies are the repeats: each has as many runs of every arm, on seeds of its own, so that arms are
    compared within them."""
    studies = [sorted(one.study for one in arm.facts if one.study is not None) for arm in measured.evidence.arms]
    whose: dict[int | None, set[str | None]] = {}
    for one in measured.facts:
        whose.setdefault(one.seed, set()).add(one.study)
    alone = all(len(one) == len(set(one)) for one in studies) or all(len(names) == 1 for names in whose.values())
    return len(studies) > 1 and all(one == studies[0] for one in studies) and alone


def _by_study(facts: Iterable[RunFacts]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in facts:
        if one.study is not None and one.value is not None and math.isfinite(one.value):
            found.setdefault(one.study, []).append(one.value)
    return found


def _largest_by_chance(groups: Iterable[Sequence[float]]) -> float:
    """3 sqrt 2 times the sd of one run, pooled within each arm of each study; DRIFT_NATS where none has two runs."""
    repeated = [values for values in groups if len(values) >= 2]
    freedom = sum(len(values) - 1 for values in repeated)
    squares = sum((value - fmean(values)) ** 2 for values in repeated for value in values)
    return 3 * math.sqrt(2 * squares / freedom) if squares > 0 else DRIFT_NATS


def budget(measured: Measured) -> list[Audit]:
    """Arms that got more updates, tokens or FLOPs, though that is not what varies. Of our own, the design says it."""
    evidence = measured.evidence
    if evidence.source == "study" or len(evidence.arms) < 2:
        return []
    lengths = [name for name in evidence.vary if kind_by_name(name) == "length"]
    if any(all(arm.settings.get(name) is not None for arm in evidence.arms) for name in lengths):
        return []  # length is the question
    names = dict.fromkeys(name for one in measured.facts for name in one.lengths)
    known = {name: spans for name in names if (spans := _spans(evidence.arms, name)) is not None}
    batches = [name for name in evidence.vary if says_the_batch(name)]
    if not known.keys() - {"flops"} and batches and evidence.source == "table":
        vary = "varies" if len(batches) == 1 else "vary"
        message = f"{words.listing(batches)} {vary}, so updates or tokens differ, and the table has a column of neither"
        return [block("budget", message, "add the columns updates and tokens, and give every arm the same")]
    rest = [repr(sorted((n, str(v)) for n, v in arm.settings.items() if n not in lengths)) for arm in evidence.arms]
    spans = {name: [(key, one) for key, one in zip(rest, found, strict=True) if one] for name, found in known.items()}
    differing = {name: span for name, found in spans.items() if (span := unequal(found)) is not None}
    if not differing:
        return []
    said = words.listing([f"{_long(low)} to {_long(high)} {name}" for name, (low, high) in differing.items()])
    message = f"arms have {said}, and that is not what varies{_exchange(measured, differing)}"
    shared = _shared_update(measured)
    at = "" if shared is None else f" or all at one update (--at {shared:g}),"
    if any(is_tokens(name) and name not in differing for name in known):
        return [warn("budget", f"{message}; tokens are equal", "read the loss beside what differs")]
    return [block("budget", message, f"compare arms of one length,{at} or vary the length and say so")]


def unequal(amounts: Iterable[tuple[str, Span]]) -> Span | None:
    """The least and the most of a budget, where arms that differ in something else do not share one.

    `amounts`: of each arm, what else it is told apart by (its settings but for those that say how long a run is), and
    its budget. Arms that differ in their length alone ask about length: they may differ as long as there is one
    length on which every combination of the other settings was run.
    """
    by_rest: dict[str, list[Span]] = {}
    for rest, span in amounts:
        by_rest.setdefault(rest, []).append(span)
    groups = list(by_rest.values())
    if not groups or any(all(any(_agree(span, other) for other in group) for group in groups) for span in groups[0]):
        return None
    spans = [span for group in groups for span in group]
    return min(low for low, _ in spans), max(high for _, high in spans)


def _agree(one: Span, other: Span) -> bool:
    """Whether both are one amount, within EQUAL."""
    return max(one[1], other[1]) <= min(one[0], other[0]) * (1 + EQUAL)


def _exchange(measured: Measured, differing: Mapping[str, Span]) -> str:
    """What the updates that some arms have more are worth at most, by the ends of all learning curves."""
    counted = updates_of(list(differing))
    if counted is None or measured.evidence.goal == "maximize":
        return ""
    worth = exchange(points for arm in measured.evidence.arms for points in arm.evaluations.values() if points)
    ends = worth.interval(1 - measured.evidence.alpha)
    if worth.difference is None or ends is None or worth.difference <= 0:
        return ""
    metric, (low, high) = measured.evidence.metric, differing[counted]
    places = words.decimals((ends[1] - ends[0]) / 2)
    each = f"{words.number(worth.difference, places)}{words.unit(metric)} {words.interval(ends, places)}"
    total = worth.difference * (high - low) / 100
    near = f"near the end of {words.count(worth.n, 'curve')} 100 {counted.removesuffix('s')}s are {each}"
    return f"; {near}, so length alone may make {total:.2g}"


def _long(length: float) -> str:
    return f"{length:,.0f}" if 1000 <= length < 1e7 and length == round(length) else f"{length:.4g}"


def _shared_update(measured: Measured) -> float | None:
    """The last at which every run of a table that has steps was measured; None where there is none."""
    runs = [points for arm in measured.evidence.arms for points in arm.evaluations.values()]
    whole = sum(len(arm.search) for arm in measured.evidence.arms)
    if measured.evidence.source != "table" or not runs or len(runs) < whole:
        return None
    return max(set.intersection(*({at for at, _ in points} for points in runs)), default=None)


def _spans(arms: Sequence[ArmRuns], name: str) -> list[Span | None] | None:
    """By arm, over its completed runs; None for an arm without one, and altogether where a run does not say."""
    found: list[Span | None] = []
    for arm in arms:
        ended = [one for one in arm.facts if one.value is not None and math.isfinite(one.value)]
        known = [one.lengths[name] for one in ended if name in one.lengths]
        if len(known) < len(ended):
            return None
        found.append((min(known), max(known)) if known else None)
    return found


def confounded(measured: Measured) -> list[Audit]:
    """Settings that differ between arms and are not what varies; rows of one arm that are several arms."""
    evidence = measured.evidence
    if evidence.source == "study" or len(evidence.arms) < 2:  # our own arms differ in what varies, by construction
        return []
    names = [name for name in _settings_of(evidence.arms) if not is_evaluated_on(name)]  # evaluation_set says it
    several = [name for name in names if any(_differs_within(arm, name) for arm in evidence.arms)]
    if several:
        mixed = next(arm.name for arm in evidence.arms if any(_differs_within(arm, name) for name in several))
        message = (
            f"the runs of {mixed} differ in {words.listing(several)} on one seed: they are several arms, no repeats"
        )
        message += _where_the_rest_is_equal(measured, several)
        across = ",".join(several)
        remedy = f"tell them apart: --vary {','.join([*evidence.vary, *several])}; or compare where they agree: "
        return [block("confounded", message, f"{remedy}--across {across}")]
    if evidence.names_arms:
        return []
    found = [name for name in names if _differs_between(evidence.arms, name) and not _is_copy(evidence.arms, name)]
    if not found:
        return []
    differ, them, vary = ("differs", "it", "it varies") if len(found) == 1 else ("differ", "them", "they vary")
    message = f"{words.listing(found)} {differ} between arms beside what varies ({_who_has(evidence.arms, found[0])})"
    message += ", so whose the difference is cannot be told"
    return [block("confounded", message, f"compare arms that agree in {them}, or say that {vary} too")]


def _settings_of(arms: Sequence[ArmRuns]) -> list[str]:
    return list(dict.fromkeys(name for arm in arms for one in arm.facts for name in one.settings))


def _who_has(arms: Sequence[ArmRuns], name: str) -> str:
    """e.g. "batch_size is 32 in lr=0.02; batch_size is 64 in lr=0.01 and lr=0.04"."""
    whose: dict[str, list[str]] = {}
    for arm in arms:
        given = [one.settings[name] for one in arm.facts if one.settings.get(name) is not None]
        has = sorted({words.setting_value(one) for one in given})
        whose.setdefault(words.listing(has), []).append(arm.name)
    return "; ".join(f"{name} is {has} in {words.listing(arms)}" for has, arms in list(whose.items())[:3] if has)


def _where_the_rest_is_equal(measured: Measured, several: Sequence[str]) -> str:
    """Of the arms that were run under one combination of all other settings, the first that has such, what each is
    above the least; of three all pairs."""
    evidence = measured.evidence
    cells: dict[tuple[str, ...], dict[str, dict[int, float]]] = {}
    said: dict[tuple[str, ...], str] = {}
    for arm in evidence.arms:
        for one in arm.facts:
            if one.value is not None and math.isfinite(one.value) and one.seed is not None:
                key = tuple(f"{name} {value}" for name, value in sorted(one.settings.items()))
                said[key] = words.listing([f"{name} {one.settings.get(name)}" for name in several])
                cells.setdefault(key, {}).setdefault(arm.name, {})[one.seed] = one.value
    for key, arms in cells.items():
        order = sorted(arms, key=lambda name: fmean(arms[name].values()))
        pairs = list(itertools.combinations(order[:3], 2)) + [(order[0], name) for name in order[3:]]
        found = [text for a, b in pairs if (text := _difference(measured, a, b, arms[a], arms[b]))]
        if found:
            return f"; where they agree ({said[key]}), {words.listing(found)}"
    return ""


def _difference(measured: Measured, a: str, b: str, of_a: Mapping[int, float], of_b: Mapping[int, float]) -> str:
    """Of the seeds that both have, with its interval; empty where there is none."""
    seeds, evidence = sorted(of_a.keys() & of_b.keys()), measured.evidence
    pair = paired(np.array([of_a[seed] for seed in seeds]), np.array([of_b[seed] for seed in seeds]))
    ends = pair.interval(1 - evidence.alpha)
    if pair.difference is None or ends is None:
        return ""
    number = words.difference(pair.difference, ends, evidence.metric, evidence.min_effect)
    return f"{b} minus {a} is {number} ({words.count(pair.n, 'paired seed')})"


def _differs_within(arm: ArmRuns, name: str) -> bool:
    """Whether runs of one arm that say one seed, or none, differ in it."""
    by_seed: dict[Any, set[str]] = {}
    for one in arm.facts:
        if one.settings.get(name) is not None:
            by_seed.setdefault((one.seed, one.stage, one.study), set()).add(str(one.settings[name]))
    return any(len(values) > 1 for values in by_seed.values())


def _differs_between(arms: Sequence[ArmRuns], name: str) -> bool:
    """Whether arms differ in it on one seed; where no run says its seed, on the whole."""
    by_seed: dict[Any, set[str]] = {}
    for arm in arms:
        for one in arm.facts:
            if one.settings.get(name) is not None:
                by_seed.setdefault((one.seed, one.stage), set()).add(str(one.settings[name]))
    if any(len(values) > 1 for values in by_seed.values()):
        return True
    wholes = [{str(one.settings[name]) for one in arm.facts if one.settings.get(name) is not None} for arm in arms]
    seeds = [{one.seed for one in arm.facts} for arm in arms]
    share_seeds = None not in seeds[0] and all(one == seeds[0] for one in seeds)
    return len({frozenset(whole) for whole in wholes if whole}) > 1 and not share_seeds


def _is_copy(arms: Sequence[ArmRuns], name: str) -> bool:
    """Whether a column only repeats what varies: the same number or its logarithm, a text with it, or, where the name
    says that it is of the same thing (min_lr of lr), whatever goes with it one to one."""
    for varied in dict.fromkeys(setting for arm in arms for setting in arm.settings):
        pairs = {
            (arm.settings.get(varied), one.settings[name])
            for arm in arms
            for one in arm.facts
            if one.settings.get(name) is not None
        }
        if len({given for given, _ in pairs}) < len(pairs) or len({copy for _, copy in pairs}) < len(pairs):
            continue
        if all(isinstance(copy, str) and str(given).casefold() in copy.casefold() for given, copy in pairs):
            return True
        numbers = [(float(given), float(copy)) for given, copy in pairs if is_number(given) and is_number(copy)]
        shared = set(words_in(same_name(varied))) & set(words_in(same_name(name))) - COMMON
        if len(numbers) == len(pairs) and (shared or _is_same_or_logarithm(numbers)):
            return True
    return False


def _is_same_or_logarithm(pairs: Sequence[tuple[float, float]]) -> bool:
    """Within what rounding hides."""
    forms = [pairs]
    if all(x > 0 for x, _ in pairs):
        forms += [[(log(x), y) for x, y in pairs] for log in (math.log, math.log2, math.log10)]
    return any(all(abs(x - y) <= 0.01 * max(abs(x), abs(y)) for x, y in form) for form in forms)


# --- Runs, noise, ranges and valleys ---

MOST_SPREADS = 3.0
"""Of one run's sd, that the smallest difference which matters may be without a word."""
EXTENSION = 2
"""Steps of its values by which a range should grow."""
CONTRADICTS = 0.01
"""Error with which fresh seeds may contradict a valley that is one."""


def not_theirs(measured: Measured, borrowed: Borrowed) -> list[Audit]:
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


def edge(measured: Measured) -> list[Audit]:
    """The best value, one that the optimum may lie at, or the optimum's interval touches the end of the range."""
    evidence, found = measured.evidence, []
    if measured.best is None:
        return []
    for setting in evidence.vary:
        values = numbers_of([arm.settings.get(setting) for arm in evidence.arms])
        if values is None or len(set(values)) < LEAST_AXIS_VALUES:
            continue
        steps = sorted(set(values))
        touching = {values[measured.best]}
        is_axis = measured.sweep is not None and measured.sweep.setting == setting
        if is_axis and (measured.can_judge or measured.located is not None):
            touching |= {values[i] for i in measured.candidates}
        is_log = measured.sweep.is_log if is_axis and measured.sweep else steps[0] > 0
        # 0, and 1 of what is counted, is where a setting ends, not where somebody stopped
        is_its_end = steps[0] == 0 or (steps[0] == 1 and all(value.is_integer() for value in steps))
        low, high = steps[0] in touching and not is_its_end, steps[-1] in touching
        if low and high:
            first, last = words.setting_value(steps[0]), words.setting_value(steps[-1])
            ends = f"from one end of {setting} ({first}) to the other ({last})"
            message = f"{len(measured.unresolved)} arms are not separated, {ends}"
            found.append(block("edge", message, "run more seeds, then extend the range on the side that is left"))
        elif low or high:
            found.append(_one_end(measured, setting, steps, values[measured.best], is_log=is_log, high=high))
    return found


def _one_end(measured: Measured, setting: str, steps: list[float], best: float, *, is_log: bool, high: bool) -> Audit:
    end = steps[-1] if high else steps[0]
    reach = measured.evidence.reach.get(setting)
    last = end if reach is None else reach[1] if high else reach[0]
    step = (1 if high else -1) * EXTENSION * _step(steps, reach, is_log=is_log)
    to = last * math.exp(step) if is_log else max(last + step, 0.0)
    if all(value.is_integer() for value in steps):
        to = max(float(round(to)), 1.0, end + 1 if high else 1.0)
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


def valley(measured: Measured) -> list[Audit]:
    """A search along an axis whose runs are not one smooth valley, or that its fresh seeds contradict."""
    search, best = measured.evidence.search, measured.best
    if search is not None and search.is_broken:
        message = f"the runs along the axis are not one smooth valley ({search.ended}), so no optimum is read off them"
        remedy = "look at the curve; a narrower range, or a smoother setting, may have one valley"
        return [warn("valley", message, remedy)]
    if measured.located is None or best is None or len(fresh := list(measured.arm(best).confirm.values())) < 2:
        return []
    if not all(map(math.isfinite, fresh)):
        return []  # `diverged` says so
    expected, n = expected_at(measured, best), len(fresh)
    if not contradicted_by(fresh, expected, num_seeds=measured.located.measured_KN.shape[1]):
        return []
    message = (
        f"{words.count(n, 'fresh seed')} of {measured.arm(best).name} have mean {fmean(fresh):.4g}, above the "
        f"{expected:.4g} that the valley expects there: it is not the smooth valley it was taken for"
    )
    remedy = 'compare the values as they are: [strategy] method = "race", with the values about the best'
    return [block("valley", message, remedy)]


def contradicted_by(fresh: Sequence[float], expected: float, *, num_seeds: int) -> bool:
    """Whether fresh seeds of a value lie further above what a valley, read from so many seeds, expects there than
    chance puts them, at the error CONTRADICTS."""
    n = len(fresh)
    limit = t_quantile(n - 1, CONTRADICTS) * stdev(fresh) * math.sqrt(1 / n + 1 / num_seeds)
    return fmean(fresh) - expected > limit
