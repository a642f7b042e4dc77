"""What the page and its Markdown twin say, in words and strings: computed once, laid out by
`templates/index.html` and `templates/report.md`, which have the headings."""

import json
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from blueberry.judge import words
from blueberry.judge.judgement import ArmSummary, Audit, Best, Judgement, Purpose, RunCost
from blueberry.judge.words import (
    MISSING,
    count,
    decimals,
    duration,
    interval,
    metric_name,
    metric_unit,
    number,
    quantity,
    sentence,
    setting_value,
    settings_text,
)
from blueberry.records import RunResult, StudyRun
from blueberry.report.differences import BASELINE
from blueberry.report.kinds import of_the_whole
from blueberry.report.learning_curves import by_seed
from blueberry.report.method import how_judged, search_sentences
from blueberry.report.tables import (
    Comparison,
    Fact,
    Table,
    comparison,
    kept_runs,
    measured_table,
    names_its_settings,
    tables,
    trained_facts,
    values_of_baseline,
)
from blueberry.stats.differences import POWER
from blueberry.study.spec import Study

MOST_ARMS = 12
"""That a sentence lists."""


@dataclass(frozen=True)
class ArmRow:
    arm: str
    settings: str
    """"" where the name of the arm says it already."""
    mean: str
    interval: str
    n: str
    sd: str
    status: str
    """best, unresolved, worse or diverged."""
    status_words: str
    against_best: Comparison | None
    """None for the best itself, or when there is none."""


@dataclass(frozen=True)
class Page:
    question: str
    known: str
    unknown: str
    blocks: tuple[Audit, ...]
    warnings: tuple[Audit, ...]
    withheld: str | None
    """Why nothing is recommended; None when something is."""
    recommendation: str | None
    search: str | None
    """How a search along an axis ended, and what its answer rests on; None without one."""
    recommended: tuple[tuple[str, str], ...]
    """Setting and value, exact and as TOML has it: a copied line names the same run."""
    purposes: tuple[Fact, ...]
    """What to use for which purpose, and why; or that nothing is supported, and why."""
    measured: str
    """What the table's numbers are."""
    best: str | None
    """The arm that the others are compared with in the table."""
    rows: tuple[ArmRow, ...]
    against_baseline: tuple[Comparison, ...]
    """Empty where the baseline is the best, or there is none."""
    tables: tuple[Table, ...]
    """What else was measured of the arms; parts, conditions and effects."""
    trained: tuple[Fact, ...]
    """What was trained; empty where no study of ours asked for it."""
    findings: tuple[Fact, ...]
    """What stands out in the learning curves, by arm (a part's by its name too); empty where nothing does."""
    patterns: str | None
    """How the training losses of the other arms fell; None without curves."""
    noise: tuple[Fact, ...]
    confirmation: tuple[Fact, ...]
    confirmed: bool
    robustness: tuple[Fact, ...]
    """What missing the best value costs; empty without a logarithmic axis."""
    cost: tuple[Fact, ...]
    judged: tuple[str, ...]
    """How it was judged: short paragraphs."""
    provenance: tuple[Fact, ...]


def page(judgement: Judgement, runs: Sequence[StudyRun], study: Study | None = None) -> Page:
    """Everything a reader is told, in the order in which it is told. `study` asked for the runs. Pure."""
    recommendation = judgement.recommendation
    withheld = None if recommendation.withheld is None else sentence(recommendation.withheld)
    best = judgement.best.arm if judgement.best and judgement.verdicts else None
    whole = of_the_whole(judgement, runs)
    unchanged = values_of_baseline(judgement, runs, BASELINE)
    measured = measured_table(judgement, whole)
    names = [one.arm for each in (judgement, *(part.judgement for part in judgement.parts)) for one in each.arms]
    names += [*judgement.vary, *(part.name for part in judgement.parts)]
    return Page(
        question=judgement.question,
        known=judgement.known,
        unknown=judgement.unknown,
        blocks=tuple(_callout(audit, names) for audit in judgement.blocks),
        warnings=tuple(_callout(audit, names) for audit in judgement.audits if audit.severity == "warn"),
        withheld=withheld,
        recommendation=None if withheld else recommendation.text,
        search=search_sentences(judgement),
        recommended=()
        if withheld
        else tuple((name, json.dumps(value)) for name, value in (recommendation.settings or {}).items()),
        purposes=tuple(_purpose(purpose) for purpose in judgement.purposes),
        measured=_measured(judgement),
        best=best,
        rows=tuple(_row(judgement, arm, best, unchanged) for arm in judgement.arms),
        against_baseline=_against_baseline(judgement),
        tables=(*((measured,) if measured.rows else ()), *tables(judgement)),
        trained=trained_facts(study, runs),
        findings=tuple(Fact(f.arm, sentence(f.message)) for f in judgement.findings if f.severity == "warn"),
        patterns=_patterns(judgement),
        noise=noise_facts(judgement),
        confirmation=confirmation_facts(judgement, whole),
        confirmed=is_confirmed(judgement),
        robustness=_robustness(judgement),
        cost=_cost(judgement),
        judged=how_judged(judgement),
        provenance=_provenance(runs),
    )


def _purpose(purpose: Purpose) -> Fact:
    label = purpose.purpose.capitalize()
    if purpose.evidence is None:
        return Fact(label, "not supported", f"because: {purpose.because}")
    return Fact(
        label, settings_text(purpose.settings) if purpose.settings else ", ".join(purpose.arms), purpose.evidence
    )


def _callout(audit: Audit, names: Collection[str]) -> Audit:
    """`names`: of arms, parts and settings, which keep their case."""
    return audit.model_copy(update={"message": sentence(audit.message, names), "remedy": sentence(audit.remedy)})


def _measured(judgement: Judgement) -> str:
    name, unit = metric_name(judgement.metric), metric_unit(judgement.metric)
    per = " per token" if unit == "nats" else ""
    said = f"{name}{f', in {unit}{per}' if unit not in name else ''}, at the end of training"
    seeds = "the seeds that search"
    if judgement.conditions:
        seeds = "fresh seeds where a condition's own best has any, else those that chose it"
        if is_confirmed(judgement):
            seeds = "fresh seeds, which did not choose each condition's own best"
        elif not any(part.judgement.best and part.judgement.best.confirmed for part in judgement.parts):
            seeds = "the seeds that chose each condition's own best, which flatters it"
    elif judgement.parts:
        seeds = "seeds that did not choose an arm's own best"
    better = "higher" if judgement.goal == "maximize" else "lower"
    said = sentence(f"{said}, over {seeds}; {better} is better")
    level = f"{1 - judgement.alpha:.0%}"
    if not judgement.verdicts:
        return f"{said} Intervals are at {level}."
    return (
        f"{said} Intervals of means are at {level} each; those of differences, always the arm minus the reference, are "
        "adjusted for the number of comparisons; pairs: the seeds of a difference."
    )


def _against_baseline(judgement: Judgement) -> tuple[Comparison, ...]:
    if not any(verdict.a == BASELINE for verdict in judgement.verdicts):
        return ()
    if judgement.best and judgement.best.arm == BASELINE:
        return ()
    return tuple(comparison(judgement, arm.arm, BASELINE) for arm in judgement.arms if arm.arm != BASELINE)


def _row(judgement: Judgement, arm: ArmSummary, best: str | None, unchanged: dict[str, Any]) -> ArmRow:
    """`unchanged`: what the baseline has where others differ from it."""
    places = decimals(judgement.min_effect)
    settings = unchanged if arm.arm == BASELINE else arm.settings
    words = {"best": "best", "unresolved": "not told apart", "worse": "worse", "diverged": "diverged"}[arm.status]
    if judgement.is_located:  # a valley compares values, not arms
        where = {"unresolved": "in the optimum's interval", "worse": "outside the optimum's interval"}
        words = where.get(arm.status, words)
    if judgement.conditions:
        words = "not compared"
    if arm.n == 0:
        words = "best, between those searched" if arm.status == "best" else "no run has ended"
    if arm.num_diverged:
        words = f"{arm.num_diverged} of {arm.n} diverged"
    return ArmRow(
        arm=arm.arm,
        settings="" if names_its_settings(judgement, arm.arm, arm.settings) else settings_text(settings),
        mean=number(arm.mean, places),
        interval=interval(arm.interval, places),
        n=str(arm.n),
        sd=number(arm.sd, places),
        status=arm.status,
        status_words=words,
        against_best=None if best is None or arm.arm == best else comparison(judgement, arm.arm, best),
    )


def _patterns(judgement: Judgement) -> str | None:
    """One sentence, e.g. "Training loss fell fast in a and b, at a moderate pace in c"."""
    said = []
    for pattern, said_so in (("fast", "fast"), ("moderate", "at a moderate pace"), ("slow", "slowly")):
        arms = [one.arm for one in judgement.findings if one.pattern == pattern]
        if arms:
            shown = ", ".join(arms[:MOST_ARMS]) + (
                f" and {len(arms) - MOST_ARMS} more" if len(arms) > MOST_ARMS else ""
            )
            said.append(f"{said_so}: {shown}")
    if not said:
        return None
    return (
        f"Training loss fell {'; '.join(said)}. (Fast: 80% of the way to its final value within a quarter of the run; "
        "moderate: within half. Fast is not better: a rate that is too high also falls fast, and then stops.)"
    )


def _robustness(judgement: Judgement) -> tuple[Fact, ...]:
    found, places = judgement.robustness, decimals(judgement.min_effect)
    if found is None:
        return ()
    facts = []
    if found.band is not None and found.band_factor is not None and found.band_is_bounded is not None:
        more = "" if all(found.band_is_bounded) else "at least "
        value = f"{more}a factor of {found.band_factor:.2g}"
        band = f"{setting_value(found.band[0])} to {setting_value(found.band[1])}"
        facts.append(Fact(f"Within {judgement.min_effect:g} of the best", value, f"of the means, interpolated: {band}"))
    if found.excess is not None:
        value = f"{number(found.excess, places, sign=True)} {interval(found.excess_interval, places, sign=True)}"
        facts.append(
            Fact("A value up to tenfold off costs, on average", value, "drawn evenly in logarithm, either side")
        )
    if (stable := found.stable_to) is not None:
        remark = f"0 of {count(stable.n, 'run')} failed there: at most {stable.bound:.0%} do"
        facts.append(Fact("No run failed up to", setting_value(stable.value), remark))
    if (failing := found.unstable_from) is not None:
        remark = f"{failing.failures} of {count(failing.n, 'run')}: at least {failing.bound:.1%} do"
        facts.append(Fact("Runs failed from", setting_value(failing.value), remark))
    return tuple(facts)


def _cost(judgement: Judgement) -> tuple[Fact, ...]:
    cost = judgement.cost
    return (
        Fact("Runs", str(cost.runs)),
        Fact("Training tokens", quantity(float(cost.tokens)) if cost.tokens else "not recorded"),
        Fact("Floating point operations", quantity(cost.flops, "FLOP") if cost.flops else "not recorded"),
        Fact("Training time, added up", duration(cost.seconds) if cost.seconds else "not recorded"),
        *_saving(cost),
    )


def _saving(cost: RunCost) -> tuple[Fact, ...]:
    if not cost.shared_flops or cost.flops is None:
        return ()
    share = cost.shared_flops / (cost.flops + cost.shared_flops)
    spared = f"{quantity(cost.shared_flops, 'FLOP')} and {duration(cost.shared_seconds)}"
    remark = "runs that differ only in schedule or length began where another had been; no number depends on it"
    return (Fact("Shared, not trained twice", f"{spared}, {share:.0%} of what the runs cost alone", remark),)


def _provenance(runs: Sequence[StudyRun]) -> tuple[Fact, ...]:
    """Each distinct value with the number of runs, when there is more than one."""
    recorded = [run.result.provenance for run in runs if run.result.provenance is not None]
    if not recorded:
        return (Fact("Runs", "what computed them was not recorded"),)
    facts = []
    for label, name in (
        ("Build of the trainer", "code_digest"),
        ("PyTorch", "torch"),
        ("Device", "device"),
        ("Threads", "threads"),
        ("Runs side by side", "lanes"),
        ("Data", "data_digest"),
        ("Validation tokens", "evaluation_digest"),
    ):
        counts = Counter(str(value) for p in recorded if (value := getattr(p, name)) is not None)
        if not counts:
            continue
        if len(counts) == 1:
            facts.append(Fact(label, next(iter(counts))))
        else:
            said = ", ".join(f"{value} ({count(num, 'run')})" for value, num in sorted(counts.items()))
            facts.append(Fact(label, said, "differs between runs"))
    unknown = len(runs) - len(recorded)
    return (*facts, Fact("Not recorded", count(unknown, "run"))) if unknown else tuple(facts)


def noise_facts(judgement: Judgement) -> tuple[Fact, ...]:
    """Of conditions one each: they are judged by their own noise."""
    if judgement.conditions:
        return tuple(_noise_there(part.name, part.judgement) for part in judgement.parts)
    noise, unit, places = judgement.noise, words.unit(judgement.metric), decimals(judgement.min_effect) + 1
    facts = [
        Fact("One run around its arm's mean (sd)", MISSING if noise.sd is None else number(noise.sd, places) + unit),
        Fact(
            "Two arms on one seed go together (rho)",
            MISSING if noise.rho is None else f"{noise.rho:.2f}",
            "1: seeds move all arms alike; 0: not at all",
        ),
        Fact("Measured on", "no arm was run twice" if noise.sd is None else count(noise.n, "run")),
    ]
    if noise.prior_df is not None and math.isfinite(noise.prior_df):
        remark = "degrees of freedom that arms lend one another; the fewer, the more each is judged by its own noise"
        facts.append(Fact("Arms differ in noise", f"{noise.prior_df:g}", remark))
    if noise.borrowed_sd is not None and noise.borrowed_df is not None:
        known = "taken as known" if math.isinf(noise.borrowed_df) else f"{noise.borrowed_df:g} degrees of freedom"
        value = f"{noise.borrowed_sd:g}{unit} ({noise.borrowed_from})"
        facts.append(Fact("Borrowed, and judged with: one run (sd)", value, known))
    if noise.paired_sd is not None:
        facts.insert(2, Fact("Difference of two arms on one seed (sd)", number(noise.paired_sd, places) + unit))
    if judgement.is_located:  # a valley compares values, not arms
        return tuple(facts)
    found = judgement.detectable
    least, seeds = (found.difference, found.seeds) if found else (None, max((a.n for a in judgement.arms), default=0))
    remark = "needs an arm that was run twice"
    if least is not None:
        than = "larger" if least > judgement.min_effect else "no larger"
        against = "baseline" if any(arm.arm == BASELINE for arm in judgement.arms) else "best"
        remark = (
            f"between an arm and the {against}, found with probability {POWER:g}; "
            f"{than} than the {judgement.min_effect:g}{unit} said to matter"
        )
    value = MISSING if least is None else number(least, places - 1) + unit
    one = "seed" if noise.paired_sd is not None and noise.borrowed_sd is None else "run"
    each = "" if one == "seed" else " of each arm"
    return (*facts, Fact(f"Smallest difference that {count(seeds, one)}{each} can show", value, remark))


def _noise_there(name: str, judgement: Judgement) -> Fact:
    noise, unit, places = judgement.noise, words.unit(judgement.metric), decimals(judgement.min_effect) + 1
    label = f"{name}: one run around its arm's mean (sd)"
    if noise.sd is None:
        return Fact(label, MISSING, "no arm was run twice")
    said = [f"from {count(noise.n, 'run')}"]
    if noise.paired_sd is not None:
        said.append(f"difference of two arms on one seed {number(noise.paired_sd, places)}")
    if (found := judgement.detectable) is not None and not judgement.is_located:
        least = number(found.difference, places - 1)
        said.append(f"the smallest that {count(found.seeds, 'seed')} can show is {least}")
    return Fact(label, number(noise.sd, places) + unit, "; ".join(said))


def is_confirmed(judgement: Judgement) -> bool:
    """Whether the best arm has fresh seeds; of conditions, whether the best of each has."""
    bests = [part.judgement.best for part in judgement.parts] if judgement.conditions else [judgement.best]
    return all(best is not None and best.confirmed for best in bests)


def confirmation_facts(judgement: Judgement, runs: Sequence[StudyRun]) -> tuple[Fact, ...]:
    """The best arm on the seeds that chose it, on fresh ones and on the test set; of conditions each one's own best."""
    best, places = judgement.best, decimals(judgement.min_effect)
    if judgement.conditions:
        bests = [(part.name, part.judgement.best) for part in judgement.parts]
        return tuple(_confirmed_there(name, best, places) for name, best in bests if best is not None)
    if best is None:
        return ()
    chose = f"flattering: it was chosen for being {'high' if judgement.goal == 'maximize' else 'low'}"
    facts = [Fact(f"{best.arm} on the seeds that chose it", number(best.search_mean, places), chose)]
    if judgement.is_located and not any(arm.n for arm in judgement.arms if arm.arm == best.arm):
        said = "of its neighbours; no run with this value searched"
        facts = [Fact(f"{best.arm} as the fitted valley has it", number(best.search_mean, places), said)]
    if best.confirmed:
        fresh = f"{number(best.mean, places)} {interval(best.interval, places)}"
        facts += [Fact("On fresh seeds", fresh, count(best.n, "run")), *_each(judgement, best, runs)]
        facts += [kept for kept in (kept_runs(_fresh(best, runs)),) if kept is not None]
    else:
        facts.append(Fact("On fresh seeds", "not measured", "the number above is unconfirmed"))
    if best.test_mean is not None:
        remark = "of the same runs; the test set selected nothing"
        facts.append(Fact("On the test set", number(best.test_mean, places), remark))
    return tuple(facts)


def _each(judgement: Judgement, best: Best, runs: Sequence[StudyRun]) -> list[Fact]:
    said = [_ended(run.result, judgement) for run in _fresh(best, runs)]
    return [Fact("Each of them", ", ".join(said))] if said else []


def _fresh(best: Best, runs: Sequence[StudyRun]) -> list[StudyRun]:
    return sorted((run for run in runs if run.stage == "confirm" and run.arm == best.arm), key=by_seed)


def _ended(result: RunResult, judgement: Judgement) -> str:
    """The number of a run, or how it ended without one."""
    if result.status != "completed":
        return "diverged" if result.status == "diverged" else "crashed"
    value = result.metric(judgement.metric)
    return "not measured" if value is None else number(value, decimals(judgement.min_effect))


def _confirmed_there(name: str, best: Best, places: int) -> Fact:
    label, chose = (
        f"{name}: {best.arm} on fresh seeds",
        f"{number(best.search_mean, places)} on the seeds that chose it",
    )
    value = f"{number(best.mean, places)} {interval(best.interval, places)}" if best.confirmed else "not measured"
    said = [count(best.n, "run"), chose] if best.confirmed else [chose]
    if best.test_mean is not None:
        said.append(f"on the test set, the same runs: {number(best.test_mean, places)}")
    return Fact(label, value, "; ".join(said))
