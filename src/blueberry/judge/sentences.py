"""What a judgement says, in sentences, from its numbers alone: what its runs show, what they do not, what to use. Each
number has its interval and n."""

import math
from collections.abc import Sequence

from blueberry.judge import words
from blueberry.judge.across import known_across, recommended_across, unknown_across
from blueberry.judge.effects import advised, recommended_by_effects, told_effects
from blueberry.judge.judgement import (
    BASELINE,
    LEAST_BLOCKS,
    Best,
    Judgement,
    Optimum,
    Recommendation,
    Verdict,
    what_blocks,
    why_withheld,
)
from blueberry.stats.differences import POWER


def known(judgement: Judgement) -> str:
    """What these runs show; of a race that has ended, also how; of an ablation, what the changes do."""
    if judgement.is_across:
        return known_across(judgement)
    best = judgement.best
    if best is None:
        said = f"No arm has a finite {judgement.metric}: {_how_all_failed(judgement)}."
    elif len(judgement.arms) == 1:
        said = _known_of_a_floor(judgement, best)
    elif judgement.is_located and not judgement.withholds_differences:
        said = _known_of_a_valley(judgement, best)
    elif judgement.withholds_differences and judgement.can_judge:
        said = f"{_leads(judgement, best)}; whether it is better is withheld.{_how_the_race_ended(judgement)}"
    else:
        said = f"{_known(judgement, best)}{_how_the_race_ended(judgement)}"
    effects = [*_told_cleared(judgement), *(told_effects(judgement) if judgement.effects else ())]
    if judgement.pooled is not None:  # they are all that single runs tell
        return " ".join([*effects, said])
    rests_on = [] if judgement.withholds_differences else [*_told_borrowed(judgement), *_told_unstable(judgement)]
    return " ".join([*_how_the_search_broke(judgement), said, *rests_on, *effects])


def _known_of_a_floor(judgement: Judgement, best: Best) -> str:
    """Of one arm alone: its mean, how its runs scatter, and what as many runs of two arms could tell."""
    arm, found, places = judgement.arms[0], judgement.detectable, words.decimals(judgement.min_effect) + 1
    name, unit = _its_number(judgement, best).replace("mean ", "a mean ", 1), words.unit(judgement.metric)
    said = f"{arm.arm} has {name.replace(' that chose it', '')}"
    if judgement.blocks:
        return f"{said}; how its runs scatter is withheld."
    if arm.sd is not None:
        said += (
            f"; one run scatters by {words.number(arm.sd, places)}{unit} {words.interval(arm.sd_interval, places)} (sd)"
        )
    if found is not None:
        least = f"{words.number(found.difference, places)}{unit}"
        said += (
            f"; {words.count(found.seeds, 'run')} a side, unpaired, show a difference of {least} with power {POWER:g}"
        )
    return f"{said}."


def unknown(judgement: Judgement) -> str:
    """What these runs do not show, and what would."""
    if judgement.is_across:
        return unknown_across(judgement)
    which, best = f"Which {_noun(judgement)} is best", judgement.best
    if judgement.blocks:
        return f"{which}: {what_blocks(judgement)}"
    if best is None:  # what crashed or has not ended blocks, so all that is left diverged
        lower = "lower the rates" if _noun(judgement) == "rate" else "change what diverges"
        return f"{which}; {lower}, so that some arm trains without diverging on every seed."
    if len(judgement.arms) == 1:
        return "How any other arm compares: nothing else was run; its runs, or --sigma with this sd, would show it."
    if judgement.pooled is not None:
        return "Which arm is best, and which changes depend on one another; three seeds of every arm would show it."
    if left_open := _left_open(judgement):
        return left_open
    open_ = [v for v in _on_unresolved(judgement, best) if v.verdict == "inconclusive"]
    if open_:
        return f"Which of these is best; {_what_would_settle(judgement, open_)}."
    if not best.confirmed:
        return "What the best arm reaches on seeds that did not choose it; fresh seeds would show it."
    return "Whether this holds at another length, size or text; a study there would show it."


def recommendation(judgement: Judgement) -> Recommendation:
    """The best arm's settings; the baseline's when nothing was shown to beat it; withheld when an audit blocks."""
    if judgement.blocks:
        return Recommendation(withheld=why_withheld(judgement.audits))
    if judgement.is_across:
        return recommended_across(judgement)
    best = judgement.best
    if best is None:
        return Recommendation(withheld="no arm has a finite result")
    if judgement.pooled is not None:
        text = advised(judgement)
        return Recommendation(
            text=text, withheld=None if text else "no main effect is told from 0, and no arm is repeated"
        )
    if len(judgement.arms) == 1:
        return Recommendation(withheld="one arm alone: there is nothing to choose from")
    if judgement.effects and (effects := recommended_by_effects(judgement)) is not None:
        return effects
    against = _against_baseline(judgement, best)
    baseline = next((arm for arm in judgement.arms if arm.arm == BASELINE), None)
    if baseline is not None and (best.arm == BASELINE or against is None or against.winner != best.arm):
        return Recommendation(
            settings=dict(baseline.settings), text=f"Keep the baseline: {why_the_baseline(judgement)}."
        )
    chosen = ", ".join(f"{name} = {words.setting_value(value)}" for name, value in best.settings.items())
    text = f"Use {chosen or best.arm}.{_off_the_optimum(judgement, best)}"
    if judgement.is_located:
        text += f" It {_at_worst(judgement)}."
    elif len(judgement.unresolved) > 1:
        text += f" {_group(judgement)} are not separated by these runs."
    return Recommendation(settings=best.settings, text=text)


def why_the_baseline(judgement: Judgement, it: str = "it") -> str:
    """Where it is kept: nothing beats it, or only what lies behind the best arm, which is too noisy to."""
    beat_it = [v.b for v in judgement.verdicts if v.a == BASELINE and v.winner == v.b]
    if not beat_it or judgement.best is None:
        return f"no change was shown to beat {it}"
    were = "was" if len(beat_it) == 1 else "were"
    return f"{judgement.best.arm}, the best arm, was not shown to beat {it}; {words.listing(beat_it)} {were}"


def _known_of_a_valley(judgement: Judgement, best: Best) -> str:
    """What a search has found, for how many runs, and what that rests on."""
    located, found = judgement.located, judgement.optimum
    assert located is not None
    said = f"{words.setting_name(judgement.vary[0])} {_label(judgement, best.arm)} {_at_worst(judgement)}"
    if isinstance(found, Optimum):
        said += f"; the optimum then lies between {_ends(found.interval)}"
    elif found is not None:
        said += f"; the optimum then lies {found.side} {words.setting_value(found.bound)}, where the range ends"
    said += f" ({words.count(located.runs, 'run')} on {words.count(located.seeds, 'seed')})."
    number = _its_number(judgement, best).replace(", ", " is ", 1)
    return words.sentence(f"{said} Its {number}." if best.n else said)


def _at_worst(judgement: Judgement) -> str:
    """e.g. "costs at most 0.0042 nats more than the best of the range (95%), if the curve is one smooth valley"."""
    excess = judgement.located.excess if judgement.located else None
    cost = f"{max(excess or 0.0, 0.0):.2g}{words.unit(judgement.metric)}"
    level = f"{1 - judgement.alpha:.0%}"
    return (
        f"costs at most {cost} more than the best of the range ({level}), if the curve is {words.shape(judgement.goal)}"
    )


def _left_open(judgement: Judgement) -> str:
    """What a search could not show with the runs or seeds it had; empty where it showed it."""
    located = judgement.located
    if located is None or located.excess is None or located.excess <= judgement.min_effect:
        return ""
    runs = f"the {words.count(located.runs, 'run')} that [strategy] runs allows are spent; raise it"
    spent = runs if located.ended == "runs" else f"all {located.seeds} seeds are spent; raise [seeds] max"
    return f"Whether it is within {judgement.min_effect:g}{words.unit(judgement.metric)} of the best; {spent}."


def _how_the_search_broke(judgement: Judgement) -> list[str]:
    """Why the runs of a search are judged as they are; none where they need not be."""
    located = judgement.located
    if located is None or not located.is_broken:
        return []
    why = "no smooth curve fits" if located.ended == "no valley" else located.ended
    return [f"The runs are not {words.shape(judgement.goal)} ({why}), so the values are compared as they are."]


def _known(judgement: Judgement, best: Best) -> str:
    label = _label(judgement, best.arm)
    if not judgement.can_judge:
        return f"{_leads(judgement, best)}{_from_the_others(judgement, best)}.{_where(judgement)}"
    against = _against_baseline(judgement, best)
    if against is not None:
        number = _its_number(judgement, best).replace(", ", " is ", 1)
        return f"{_on_the_baseline(judgement, against)}; its {number}."
    if len(judgement.unresolved) > 1:
        runs = f"{_runs_of(_on_unresolved(judgement, best))}{_ties(judgement, best)}; {_leads(judgement, best)}"
        return f"{_group(judgement)} are not separated by {runs}.{_where(judgement)}"
    is_ = _its_number(judgement, best).replace(", ", " is ", 1)
    return f"{label} is {_better(judgement, best)}; its {is_}.{_where(judgement)}"


def _leads(judgement: Judgement, best: Best) -> str:
    """Who is ahead, e.g. "0.03 has the least mean val_loss, 3.412 nats [3.401, 3.423] on 5 fresh seeds".

    Where seeds are unequal, arms are compared on those they share, and another may have the lower mean of its own.
    """
    label, number = _label(judgement, best.arm), _its_number(judgement, best)
    ahead = [
        arm
        for arm in judgement.arms
        if arm.mean is not None and not arm.num_diverged and judgement.sign * (arm.mean - best.search_mean) < 0
        and (not judgement.looks or arm.arm in judgement.unresolved)
    ]  # fmt: skip
    if not ahead:
        return f"{label} has the {words.extreme(judgement.goal)} {number}"
    lowest = min(ahead, key=lambda arm: judgement.sign * (arm.mean or 0.0))
    if lowest.n < LEAST_BLOCKS and judgement.can_judge:
        one = words.count(lowest.n, "seed" if judgement.is_seeded else "run")
        alone = words.metric_value(lowest.mean or 0.0, None, judgement.metric, judgement.min_effect)
        better = "greater" if judgement.goal == "maximize" else "lower"
        of = f"of the arms with {LEAST_BLOCKS} runs or more {label} has the {words.extreme(judgement.goal)} {number}"
        return f"{of}; {_label(judgement, lowest.arm)} is {better}, {alone} on {one}, too few to tell"
    own = words.metric_value(lowest.mean or 0.0, lowest.interval, judgement.metric, judgement.min_effect)
    return (
        f"{label} is ahead on the seeds that arms share, with {number}; {_label(judgement, lowest.arm)}, on other "
        f"seeds, has the {words.extreme(judgement.goal)} mean, {own} on {words.count(lowest.n, 'seed')}"
    )


def _better(judgement: Judgement, best: Best) -> str:
    """Than whom. An arm that diverged on some seeds only is out, but no verdict says that it is worse."""
    noun = "arm" if judgement.sweep is None else f"{_noun(judgement)} tried"
    beaten = {v.b for v in judgement.verdicts if v.a == best.arm and v.winner == best.arm}
    left = [arm for arm in judgement.arms if arm.num_diverged and arm.arm not in beaten]
    seeds = _runs_of([v for v in judgement.verdicts if v.a == best.arm] or judgement.verdicts)
    if not left:
        return f"better than every other {noun} on {seeds}"
    if len(left) == len(judgement.arms) - 1:
        return f"the only {noun} without a run that diverged, on {seeds}"
    runs = words.count(sum(arm.n for arm in left), "run")
    names = words.listing([_label(judgement, arm.arm) for arm in left])
    failed = f"{sum(arm.num_diverged for arm in left)} of {runs} diverged"
    return f"better than every other {noun} on {seeds}, but for {names} ({failed})"


def _from_the_others(judgement: Judgement, best: Best) -> str:
    """Where nothing may be told apart: from whom, those that diverged left out; empty where nobody is left."""
    others = [name for name in judgement.unresolved if name != best.arm]
    if not others:
        return ""
    if len(others) < len(judgement.arms) - 1:
        return f"; nothing separates it from {words.listing([_label(judgement, name) for name in others])}"
    return f"; nothing separates it from the other {words.count(len(others), 'arm') if len(others) > 1 else 'arm'}"


def _how_all_failed(judgement: Judgement) -> str:
    """Where no arm has a finite mean, e.g. "every run crashed", "2 runs diverged and 4 runs crashed"."""
    arms = judgement.arms
    numbers = {"diverged": sum(arm.num_diverged for arm in arms), "crashed": sum(arm.num_crashed for arm in arms)}
    failed = [(how, number) for how, number in numbers.items() if number]
    without = [arm.arm for arm in arms if not arm.n and not arm.num_crashed]
    any_finite = any(math.isfinite(value) for arm in arms for value in arm.values)
    if not failed:
        return "no run has ended"
    if len(failed) == 1 and not without and not any_finite:
        return f"every run {'so far ' if judgement.num_unfinished else ''}{failed[0][0]}"
    said = [f"{words.count(number, 'run')} {how}" for how, number in failed]
    return words.listing([*said, *(f"{name} has no run that ended" for name in without)])


def _how_the_race_ended(judgement: Judgement) -> str:
    """A sentence; empty where there was no race, or it has not ended."""
    if judgement.ended is None:
        return ""
    seeds = words.count(judgement.looks[judgement.looks_taken - 1], "seed")
    if judgement.ended == "maximum":
        return f" The race reached its maximum of {seeds} with something left open."
    return f" Every question of the race was settled after {seeds}."


def _on_unresolved(judgement: Judgement, best: Best) -> list[Verdict]:
    """The verdicts on the other arms that may be the best, against it."""
    return [v for v in judgement.verdicts if v.a == best.arm and v.b in judgement.unresolved]


def _ties(judgement: Judgement, best: Best) -> str:
    """Which of the unresolved arms equal the best one; empty where none was shown to."""
    tied = [v for v in _on_unresolved(judgement, best) if v.verdict == "tie"]
    if not tied:
        return ""
    labels = words.listing([_label(judgement, v.b) for v in tied])
    pairs = words.listing(list(dict.fromkeys(v.pairing for v in tied)))
    each = "equals" if len(tied) == 1 else "each equal"
    within = f"within {judgement.min_effect:g}{words.unit(judgement.metric)}"
    return f", and {labels} {each} {_label(judgement, best.arm)} {within} ({pairs})"


def _its_number(judgement: Judgement, best: Best) -> str:
    """e.g. "mean val_loss, 3.412 nats [3.401, 3.423] on 5 fresh seeds"."""
    one = "seed" if judgement.is_seeded else "run"
    runs = words.count(best.n, f"fresh {one}") if best.confirmed else f"the {words.count(best.n, one)} that chose it"
    name = judgement.metric if best.n == 1 else f"mean {judgement.metric}"
    scatters = best.interval is not None and best.interval[0] < best.interval[1]  # else all runs gave one value
    ends = best.interval if scatters else None
    return f"{name}, {words.metric_value(best.mean, ends, judgement.metric, judgement.min_effect)} on {runs}"


def _where(judgement: Judgement) -> str:
    """A sentence on the optimum between the values tried; empty when it is not located."""
    found = judgement.optimum
    if not isinstance(found, Optimum):
        return ""
    return (
        f" If the curve is {words.shape(judgement.goal)}, the optimum lies between {_ends(found.interval)} "
        f"({found.level:.0%} interval)."
    )


def _off_the_optimum(judgement: Judgement, best: Best) -> str:
    """Where the best of the values tried lies outside the optimum's interval, a sentence that says so."""
    found = judgement.optimum
    value = None if judgement.sweep is None else best.settings.get(judgement.sweep.setting)
    if not isinstance(found, Optimum) or value is None or found.interval[0] <= value <= found.interval[1]:
        return ""
    where = f"the optimum lies between {_ends(found.interval)}, where one may be better"
    return f" It is the best of the values tried; {where}."


def _ends(interval: tuple[float, float]) -> str:
    return f"{words.setting_value(interval[0])} and {words.setting_value(interval[1])}"


def _against_baseline(judgement: Judgement, best: Best) -> Verdict | None:
    """The best arm (b) against the baseline (a); None where it is the baseline."""
    return None if best.arm == BASELINE else judgement.verdict(BASELINE, best.arm)


def _on_the_baseline(judgement: Judgement, against: Verdict) -> str:
    if against.difference is None:
        return f"{against.b} and the baseline have no seed in common"
    number = words.difference(against.difference, against.interval, judgement.metric, judgement.min_effect)
    within = f"{judgement.min_effect:g}{words.unit(judgement.metric)}"
    said = {
        "winner": f"{against.b} is better than the baseline",
        "tie": f"{against.b} equals the baseline within {within}",
        "inconclusive": f"{against.b} is not separated from the baseline",
    }[against.verdict]
    return f"{said}: {number}, {against.pairing}"


def _what_would_settle(judgement: Judgement, open_: Sequence[Verdict]) -> str:
    needs = [(v.more_seeds, _label(judgement, v.b)) for v in open_ if v.more_seeds is not None]
    if not needs:
        return "no affordable number of seeds would settle it; state a larger min_effect"
    most, rival = max(needs)
    least, nearest = min(needs)
    best = _label(judgement, open_[0].a)
    if len(needs) == 1 or least == most:
        return f"about {words.count(most, 'more seed')} would settle {best} against {rival}"
    return f"about {words.count(least, 'more seed')} would settle {best} against {nearest}, {most} against {rival}"


def _group(judgement: Judgement) -> str:
    """The unresolved arms: "Rates 0.0316 to 0.0631" where they are neighbours on an axis, else their names."""
    labels = [_label(judgement, name) for name in judgement.unresolved]
    if judgement.sweep is None:
        return words.listing(labels)
    plural = f"{_noun(judgement).capitalize()}s"
    places = [place for place, arm in enumerate(judgement.arms) if arm.arm in judgement.unresolved]
    if len(places) > 2 and places[-1] - places[0] == len(places) - 1:
        return f"{plural} {labels[0]} to {labels[-1]}"
    return f"{plural} {words.listing(labels)}"


def _label(judgement: Judgement, name: str) -> str:
    """An arm's value where the arms lie along an axis, else its name."""
    axis = judgement.sweep
    return name if axis is None else words.setting_value(float(judgement.arm(name).settings[axis.setting]))


def _noun(judgement: Judgement) -> str:
    axis = judgement.sweep
    if axis is None:
        return "arm"
    return "rate" if words.is_rate(axis.setting) else f"{words.setting_name(axis.setting)} value"


def _runs_of(verdicts: Sequence[Verdict]) -> str:
    """What some differences were taken between, e.g. "5 seeds", "3 to 16 seeds", "10 runs each, unpaired"."""
    said = []
    if pairs := [v.n for v in verdicts if v.paired and v.n]:
        least, most = min(pairs), max(pairs)
        said.append(words.count(most, "seed") if least == most else f"{least} to {most} seeds")
    if runs := [n for v in verdicts if not v.paired for n in v.runs if n]:
        least, most = min(runs), max(runs)
        said.append(
            f"{words.count(most, 'run')} each, unpaired" if least == most else f"{least} to {most} runs, unpaired"
        )
    borrowed = ", on borrowed noise" if any(v.sigma == "borrowed" for v in verdicts) else ""
    return f"{words.listing(said) or 'these runs'}{borrowed}"


def _told_borrowed(judgement: Judgement) -> list[str]:
    """What claims rest on that these runs did not measure, in a sentence; none where they did."""
    noise = judgement.noise
    if noise.borrowed_sd is None or judgement.is_located:
        return []
    sd = f"{noise.borrowed_sd:g}{words.unit(judgement.metric)}"
    return [f"This rests on borrowed noise: single runs are taken to scatter by {sd} ({noise.borrowed_from})."]


def _told_unstable(judgement: Judgement) -> list[str]:
    """Of arms that lose by their best run, in a sentence each; none where means decide."""
    said = []
    for verdict in judgement.verdicts:
        if verdict.by == "best run" and verdict.winner is not None and verdict.difference is not None:
            loser = verdict.a if verdict.winner == verdict.b else verdict.b
            seen = verdict if loser == verdict.b else verdict.turned()
            number = words.difference(seen.difference or 0.0, seen.interval, judgement.metric, judgement.min_effect)
            said.append(
                f"Runs of {loser} blow up, so its best run stands for it: each of its {seen.runs[1]} runs is worse "
                f"than {seen.a}, the best by {number}, if one that does not blow up has the noise of the other arms."
            )
    return said


def _told_cleared(judgement: Judgement) -> list[str]:
    """Which arms clear the target, from where on, and when their runs first reach it; none without a target."""
    if judgement.target is None:
        return []
    unit = words.unit(judgement.metric)
    target, places = f"{judgement.target:g}{unit}", words.decimals(judgement.min_effect) + 1
    shown = [one for one in judgement.cleared if one.is_shown]
    if not shown:
        return [f"No arm is shown to clear {target} over its runs (one-sided, level {judgement.alpha:g})."]
    order = sorted(shown, key=lambda one: math.inf if one.updates is None else one.updates)
    said = []
    for one in order:
        where = "at its end" if one.updates is None else f"from {one.updates:g} on"
        reached = [time for time in one.times if math.isfinite(time)]
        first = f"; single runs reach it from {min(reached):g} to {max(reached):g}" if reached else ""
        missed = f", {len(one.times) - len(reached)} of {len(one.times)} never" if len(reached) < len(one.times) else ""
        said.append(
            f"{one.arm} {where} (mean {words.number(one.mean, places)} over {words.count(one.n, 'run')}, one-sided p "
            f"{one.p:.2g}{first}{missed})"
        )
    return [f"{target} is cleared by {words.listing(said, most=6)}."]
