"""The two sentences a person reads first, and the recommendation. Each number in them comes with its interval and n."""

from collections.abc import Sequence

import numpy as np

from blueberry.judge import words
from blueberry.judge.evidence import BASELINE
from blueberry.judge.judgement import Audit, Best, Optimum, Recommendation, Verdict
from blueberry.judge.measured import Measured


def known(measured: Measured, best: Best | None, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> str:
    """What these runs show; of a race that has ended, also how."""
    if withholds_differences(audits) and best is not None and measured.best is not None and measured.can_judge:
        label = _label(measured, measured.best)
        said = f"{label} has the least {_its_number(measured, best)}; whether it is better is withheld."
    else:
        said = _known(measured, best, verdicts)
    return said if best is None else f"{said}{_how_the_race_ended(measured)}"


def withholds_differences(audits: Sequence[Audit]) -> bool:
    """Whether an audit blocks that an arm is better; `edge` does not: it doubts only that the best was tried."""
    return any(audit.severity == "block" and audit.audit != "edge" for audit in audits)


def _known(measured: Measured, best: Best | None, verdicts: Sequence[Verdict]) -> str:
    if best is None or measured.best is None:
        return f"No arm has a finite {measured.evidence.metric}: {_how_all_failed(measured)}."
    label = _label(measured, measured.best)
    if not measured.can_judge:
        return f"{label} has the least {_its_number(measured, best)}{_from_the_others(measured)}."
    against = _against_baseline(verdicts)
    if against is not None:
        return f"{_baseline_sentence(measured, against, best)}; {label} has a {_its_number(measured, best)}."
    if len(measured.unresolved) > 1:
        seeds = words.count(measured.num_shared(measured.unresolved), "seed")
        group = f"{_group(measured)} are not separated by {seeds}"
        group += _ties(measured, best, verdicts)
        return f"{group}; {label} has the least {_its_number(measured, best)}.{_where(measured)}"
    is_ = _its_number(measured, best).replace(", ", " is ", 1)
    return f"{label} is {_better(measured, best, verdicts)}; its {is_}.{_where(measured)}"


def unknown(measured: Measured, best: Best | None, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> str:
    """What these runs do not show, and what would."""
    which = f"Which {_noun(measured)} is best"
    if said := what_blocks(audits):
        return f"{which}: {said}"
    if best is None:  # what crashed or has not ended blocks, so all that is left diverged
        lower = "lower the rates" if measured.axis is not None and _noun(measured) == "rate" else "change what diverges"
        return f"{which}; {lower}, so that some arm trains without diverging on every seed."
    names = {measured.arm(index).name for index in measured.unresolved}
    open_ = [v for v in verdicts if v.a == best.arm and v.b in names and v.verdict == "inconclusive"]
    if open_:
        return f"Which of these is best; {_what_would_settle(measured, open_)}."
    if not best.confirmed:
        return "What the best arm reaches on seeds that did not choose it; fresh seeds would show it."
    return "Whether this holds at another length, size or text; a study there would show it."


def recommend(
    measured: Measured, best: Best | None, verdicts: Sequence[Verdict], audits: Sequence[Audit]
) -> Recommendation:
    """The best arm's settings; the baseline's when nothing was shown to beat it; withheld when an audit blocks."""
    if (reason := why_withheld(audits)) is not None:
        return Recommendation(withheld=reason)
    if best is None or measured.best is None:
        return Recommendation(withheld="no arm has a finite result")
    against = _against_baseline(verdicts)
    baseline = next((arm for arm in measured.evidence.arms if arm.name == BASELINE), None)
    if baseline is not None and (best.arm == BASELINE or against is None or against.winner != best.arm):
        return Recommendation(
            settings=dict(baseline.settings), text="Keep the baseline: no change was shown to beat it."
        )
    chosen = ", ".join(f"{name} = {words.setting_value(value)}" for name, value in best.settings.items())
    text = f"Use {chosen or best.arm}."
    if len(measured.unresolved) > 1:
        text += f" {_group(measured)} are not separated by these runs."
    return Recommendation(settings=best.settings, text=text)


def what_blocks(audits: Sequence[Audit]) -> str:
    """What the blocking audits found and what would mend it, in sentences; empty where none blocks."""
    return " Also, ".join(
        f"{audit.message}. {audit.remedy[0].upper()}{audit.remedy[1:]}."
        for audit in audits
        if audit.severity == "block"
    )


def why_withheld(audits: Sequence[Audit]) -> str | None:
    """The reason why nothing may be recommended; None where no audit blocks."""
    return "; ".join(f"{audit.audit}: {audit.message}" for audit in audits if audit.severity == "block") or None


def _better(measured: Measured, best: Best, verdicts: Sequence[Verdict]) -> str:
    """Than whom. An arm that diverged on some seeds only is out, but no verdict says that it is worse."""
    noun = "arm" if measured.axis is None else f"{_noun(measured)} tried"
    diverged_KN = np.isinf(measured.values_KN)
    beaten = {v.b for v in verdicts if v.a == best.arm and v.winner == best.arm}
    left = [i for i in np.flatnonzero(diverged_KN.any(axis=1)).tolist() if measured.arm(i).name not in beaten]
    seeds = _seeds_of_all(measured)
    if not left:
        return f"better than every other {noun} on {seeds}"
    if len(left) == len(measured.evidence.arms) - 1:
        return f"the only {noun} without a run that diverged, on {seeds}"
    runs = words.count(int((~np.isnan(measured.values_KN[left])).sum()), "run")
    names = words.listing([_label(measured, index) for index in left])
    failed = f"{int(diverged_KN[left].sum())} of {runs} diverged"
    return f"better than every other {noun} on {seeds}, but for {names} ({failed})"


def _from_the_others(measured: Measured) -> str:
    """Where nothing may be told apart: from whom, those that diverged left out; empty where nobody is left."""
    others = [index for index in measured.unresolved if index != measured.best]
    if not others:
        return ""
    if len(others) < len(measured.evidence.arms) - 1:
        return f"; nothing separates it from {words.listing([_label(measured, index) for index in others])}"
    return f"; nothing separates it from the other {words.count(len(others), 'arm') if len(others) > 1 else 'arm'}"


def _how_all_failed(measured: Measured) -> str:
    """Where no arm has a finite mean, e.g. "every run crashed", "2 runs diverged and 4 runs crashed"."""
    arms = measured.evidence.arms
    numbers = {
        "diverged": int(np.isinf(measured.values_KN).sum()),
        "crashed": sum(len(arm.crashed) for arm in arms),
    }
    failed = [(how, number) for how, number in numbers.items() if number]
    without = [arm.name for arm in arms if not arm.search and not arm.crashed]
    if not failed:
        return "no run has ended"
    if len(failed) == 1 and not without and not np.isfinite(measured.values_KN).any():
        return f"every run {'so far ' if measured.evidence.num_unfinished else ''}{failed[0][0]}"
    said = [f"{words.count(number, 'run')} {how}" for how, number in failed]
    return words.listing([*said, *(f"{name} has no run that ended" for name in without)])


def _how_the_race_ended(measured: Measured) -> str:
    """A sentence; empty where there was no race, or it has not ended."""
    if measured.race is None or measured.race.ended is None:
        return ""
    seeds = words.count(measured.race.taken[-1], "seed")
    if measured.race.ended == "maximum":
        return f" The race reached its maximum of {seeds} with something left open."
    return f" Every question of the race was settled after {seeds}."


def _ties(measured: Measured, best: Best, verdicts: Sequence[Verdict]) -> str:
    """Which of the unresolved arms equal the best one; empty where none was shown to."""
    kept = {measured.arm(index).name: index for index in measured.unresolved}
    tied = [v for v in verdicts if v.a == best.arm and v.b in kept and v.verdict == "tie"]
    if not tied:
        return ""
    labels = words.listing([_label(measured, kept[v.b]) for v in tied])
    least, most = min(v.n for v in tied), max(v.n for v in tied)
    pairs = words.count(most, "paired seed") if least == most else f"{least} to {most} paired seeds"
    each = "equals" if len(tied) == 1 else "each equal"
    within = f"within {measured.evidence.min_effect:g}{words.unit(measured.evidence.metric)}"
    return f", and {labels} {each} {_label(measured, kept[best.arm])} {within} ({pairs})"


def _seeds_of_all(measured: Measured) -> str:
    """e.g. "3 to 16 seeds": arms of a race have unequal numbers."""
    least, most = measured.num_blocks, measured.values_KN.shape[1]
    return words.count(least, "seed") if measured.race is None or least == most else f"{least} to {most} seeds"


def _its_number(measured: Measured, best: Best) -> str:
    """e.g. "mean val_loss, 3.412 nats [3.401, 3.423] on 5 fresh seeds"."""
    metric = measured.evidence.metric
    seeds = words.count(best.n, "fresh seed") if best.confirmed else f"the {words.count(best.n, 'seed')} that chose it"
    name = metric if best.n == 1 else f"mean {metric}"
    return f"{name}, {words.metric_value(best.mean, best.interval, metric)} on {seeds}"


def _where(measured: Measured) -> str:
    """A sentence on the optimum between the values tried; empty when it is not located."""
    found = measured.optimum
    if not isinstance(found, Optimum):
        return ""
    low, high = (words.setting_value(end) for end in found.interval)
    return f" The optimum lies between {low} and {high} ({found.level:.0%} interval)."


def _against_baseline(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The baseline (a) against the best arm (b)."""
    if not verdicts or verdicts[0].a == BASELINE:
        return None
    best = verdicts[0].a
    return next((v for v in verdicts if v.a == BASELINE and v.b == best), None)


def _baseline_sentence(measured: Measured, against: Verdict, best: Best) -> str:
    if against.difference is None:
        return f"{best.arm} and the baseline have no seed in common"
    metric = measured.evidence.metric
    number = words.difference(against.difference, against.interval, metric)
    said = {
        "winner": f"{best.arm} is better than the baseline",
        "tie": f"{best.arm} equals the baseline within {measured.evidence.min_effect:g}{words.unit(metric)}",
        "inconclusive": f"{best.arm} is not separated from the baseline",
    }[against.verdict]
    return f"{said}: {number}, {words.count(against.n, 'paired seed')}"


def _what_would_settle(measured: Measured, open_: Sequence[Verdict]) -> str:
    index = {arm.name: i for i, arm in enumerate(measured.evidence.arms)}
    needs = [(v.more_seeds, _label(measured, index[v.b])) for v in open_ if v.more_seeds is not None]
    if not needs:
        return "no affordable number of seeds would settle it; state a larger min_effect"
    most, rival = max(needs)
    least, nearest = min(needs)
    best = _label(measured, index[open_[0].a])
    if len(needs) == 1 or least == most:
        return f"about {words.count(most, 'more seed')} would settle {best} against {rival}"
    return f"about {words.count(least, 'more seed')} would settle {best} against {nearest}, {most} against {rival}"


def _group(measured: Measured) -> str:
    """The unresolved arms: "Rates 0.0316 to 0.0631" where they are neighbours on an axis, else their names."""
    kept = measured.unresolved
    labels = [_label(measured, index) for index in kept]
    if measured.axis is None:
        return words.listing(labels)
    plural = f"{_noun(measured).capitalize()}s"
    if len(kept) > 2 and kept[-1] - kept[0] == len(kept) - 1:
        return f"{plural} {labels[0]} to {labels[-1]}"
    return f"{plural} {words.listing(labels)}"


def _label(measured: Measured, index: int) -> str:
    return measured.arm(index).name if measured.axis is None else words.setting_value(measured.axis.values[index])


def _noun(measured: Measured) -> str:
    if measured.axis is None:
        return "arm"
    last = measured.axis.setting.rpartition(".")[2]
    return "rate" if words.is_rate(measured.axis.setting) else f"{last.replace('_', ' ')} value"
