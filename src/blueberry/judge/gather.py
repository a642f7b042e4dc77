"""From runs to evidence, whoever made them; and whether they were what was declared, and held-out text was kept apart.

Runs come one after the other, an arm's together, so that no more than an arm's curves are held.
"""

import itertools
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from blueberry.errors import StudyError
from blueberry.judge import words
from blueberry.judge.audits import BELOW_TRAINING
from blueberry.judge.curves import read_curves
from blueberry.judge.evidence import ArmRuns, Evidence, RunFacts
from blueberry.judge.judgement import Audit, CurveFinding, RunCost, block
from blueberry.recipe import Recipe
from blueberry.records import Provenance, RunResult, Stage, StudyRun
from blueberry.schedules import multipliers
from blueberry.settings import peak_rates
from blueberry.study.spec import Arm
from blueberry.tables.columns import build_of, kind_by_name, understood, words_in

LOSSES = ("val_loss", "train_loss", "test_loss")
"""Metrics in nats per token, which guessing bounds."""


RATE_TOLERANCE = 1e-6
"""Relative: a rate that passed through 32 bits is still the declared one."""
SEVERAL_PASSES = 3.0
WINDOW_TOKENS = 256
"""Of the held-out windows that are looked for in training. Clean text shares much: of held-out runs of 13 tokens 3 to
33% occur in training too (licences, imports, idioms), so a limit of 1% on those accuses everybody. Whole windows of 256
tokens are shared by nature in 0 to 0.8% of cases, and a leak of a share of the documents shares that share of windows
(docs/doctor.md has the measurement)."""
MOST_SHARED_WINDOWS = 0.02


@dataclass(frozen=True)
class Text:
    """What is known of the text that a recipe trains on; None where it is not."""

    entropy_bits_per_byte: float | None = None
    train_tokens: int | None = None
    """Unique training tokens."""
    shared_windows: Callable[[], float] | None = None
    """The share of held-out windows of WINDOW_TOKENS that stand in the training text word for word; slow when first
    asked for."""


Texts = Callable[[Recipe], Text]


def no_texts(recipe: Recipe) -> Text:
    """Nothing is known: the audits that need it stay silent."""
    return Text()


@dataclass(frozen=True, slots=True)
class Done:
    """Of a run, what all runs together are judged by: its numbers and what its curves say of how it was made."""

    part: str
    arm: str
    num_tokens: int | None
    num_flops: float | None
    train_seconds: float | None
    """None where it ended and nobody said."""
    shared: float
    """Of the updates, those taken over from another run, as a share."""
    shared_seconds: float
    train_loss: float | None
    val_loss: float | None
    bits_per_byte: float | None
    wrong_rate: str | None
    """The first rate that was not the planned one, in words."""
    skipped_updates: int
    """Of a completed run, those that it has not made."""

    @classmethod
    def of(cls, run: StudyRun, recipe: Recipe | None) -> "Done":
        """`recipe`: what it was to be, where that is known."""
        result = run.result
        shared = result.shared_updates / result.num_updates if result.shared_updates and result.num_updates else 0.0
        return cls(
            run.part,
            run.arm,
            result.num_tokens,
            result.num_flops,
            0.0 if result.train_seconds is None and result.status == "failed" else result.train_seconds,
            shared,
            result.shared_seconds,
            _late_loss(result),
            result.metric("val_loss"),
            None if result.final is None else result.final.bits_per_byte,
            *((None, 0) if recipe is None else departure(recipe, result)),
        )


@dataclass(frozen=True)
class Asked:
    """What is asked of runs, as known before one of them is looked at."""

    evidence: Evidence
    """All but what the runs say."""
    place: str
    """What errors name: the study's or the table's file."""
    arms: Mapping[str, Arm | None]
    """By name, in their order; what is asked for, where a study says."""
    chooses: Collection[Stage] = ("search",)
    """The stages whose seeds compare an arm with others."""
    recipes: Mapping[tuple[str, str], Recipe] = field(default_factory=dict)
    """By part and arm, what our own runs were to be."""
    reads_curves: bool = False
    """Whether findings in learning curves are asked for; a table has none."""


@dataclass(slots=True)
class _Arm:
    """What is kept of an arm's runs while others are read."""

    facts: list[RunFacts] = field(default_factory=list)
    tests: dict[int, float] = field(default_factory=dict)
    evaluations: dict[int, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    provenance: dict[Provenance, None] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    keys: list[int] = field(default_factory=list)
    """Of each fact: its seed, or a number that no other run has."""


def gather(runs: Iterable[StudyRun], asked: Asked, texts: Texts = no_texts) -> Evidence:
    """The evidence of these runs. Those of arms that are not asked about only count in the cost and in how runs were
    carried out.

    Several runs of one arm on one seed are one block, with their mean; the evidence says which arms have such.
    Raises: StudyError if a completed run has not the metric.
    """
    arms: dict[str, _Arm] = {name: _Arm() for name in asked.arms}
    findings: dict[str, tuple[CurveFinding, ...]] = {}
    done: list[Done] = []
    unseeded = itertools.count(-1, -1)  # no seed of a run that has one
    for (part, name), group in itertools.groupby(runs, key=lambda run: (run.part, run.arm)):
        known: dict[int, RunResult] = {}
        own = arms.get(name) if not part else None
        for run in group:
            done.append(Done.of(run, asked.recipes.get((run.part, run.arm))))
            if own is not None:
                key = next(unseeded) if run.seed is None else run.seed
                _take(own, run, key, asked)
                known[key] = run.result
        if asked.reads_curves:
            findings[name] = (*findings.get(name, ()), *read_curves(name, known, alpha=asked.evidence.alpha))
    facts = [one for arm in arms.values() for one in arm.facts]
    vocabularies = [one.vocabulary for one in facts if one.vocabulary]
    passes = _passes(done, asked, texts)
    return replace(
        asked.evidence,
        arms=tuple(_arm_runs(name, arm, asked) for name, arm in arms.items()),
        is_seeded=not facts or any(one.seed is not None for one in facts),
        repeated_seeds=tuple(name for name, arm in arms.items() if _repeats(arm.facts)),
        guessing_loss=math.log(max(vocabularies)) if vocabularies and asked.evidence.metric in LOSSES else None,
        entropy=_entropy(asked, done, texts),
        passes=passes,
        cost=_cost(done),
        findings=tuple(one for name in asked.arms for one in findings.get(name, ())),
        audits=(
            *asked.evidence.audits,
            *departures(done),
            *(known_too_well(done, passes or 0.0) if arms else ()),  # parts say it of their own text
        ),
    )


def _take(arm: _Arm, run: StudyRun, key: int, asked: Asked) -> None:
    result = run.result
    twin = "test_loss" if asked.evidence.metric == "val_loss" else asked.evidence.metric.replace("val_", "test_", 1)
    arm.settings = arm.settings or run.settings
    arm.keys.append(key)
    arm.facts.append(_facts(run, asked))
    if result.status == "failed":
        return
    if twin != asked.evidence.metric and (tested := result.metric(twin)) is not None:
        arm.tests[key] = tested
    if run.stage in asked.chooses and (run.steps or result.evaluations):
        arm.evaluations[key] = run.steps or _evaluations(asked.evidence.metric, result)
    if result.provenance is not None:
        arm.provenance[result.provenance] = None


def _facts(run: StudyRun, asked: Asked) -> RunFacts:
    result, extra = run.result, run.result.extra
    lengths = {"updates": result.num_updates, "tokens": result.num_tokens, "flops": result.num_flops}
    settings: Mapping[str, Any] = {}
    builds: Mapping[str, str] = {}
    vocabulary = result.recipe.get(_VOCABULARY)
    if asked.evidence.source != "study":  # our own runs are as long, and were given, what their recipes say
        lengths |= {name: value for name, value in extra.items() if kind_by_name(name) == "length"}
    if asked.evidence.source == "table":
        settings = {n: v for n, v in result.recipe.items() if n not in run.settings and n not in ("seed", _VOCABULARY)}
        builds = {name: said for name, value in settings.items() if (said := _build(name, value)) is not None}
        settings = {name: value for name, value in settings.items() if build_of(name) is None}
    elif asked.evidence.source == "program":
        names = {name: understood([name]).get(name, name) for name in extra}
        vocabulary = next((extra[name] for name, meaning in names.items() if meaning == "vocabulary"), None)
        settings = {n: v for n, v in extra.items() if kind_by_name(n) == "setting" and not words.is_rate(n)}
    return RunFacts(
        seed=run.seed,
        value=_value(run, asked),
        stage=run.stage,
        place=run.place,
        study=run.study if asked.evidence.source == "table" else None,
        lengths={name: float(value) for name, value in lengths.items() if value},
        settings=settings,
        builds=builds,
        train_seconds=result.train_seconds,
        train_loss=result.metric("train_loss"),
        train_perplexity=_of_training(extra, {"perplexity", "ppl"}),
        train_accuracy=_of_training(extra, {"accuracy", "acc"}),
        val_loss=result.metric("val_loss"),
        val_bits_per_byte=result.metric("val_bits_per_byte"),
        val_accuracy=result.metric("val_accuracy"),
        val_perplexity=extra.get("val_perplexity"),
        vocabulary=vocabulary if vocabulary is not None and vocabulary > 1 else None,
        digits=run.digits,
    )


def _of_training(extra: Mapping[str, float | None], names: set[str]) -> float | None:
    """What is called so of the training text, e.g. train_ppl."""
    also = {"train", "training"}
    for column, value in extra.items():
        said = set(words_in(column))
        if said & names and said & also and said <= names | also | {"final", "end", "last"}:
            return value
    return None


def _build(column: str, value: Any) -> str | None:
    """Which device or build a cell names; cuda:0 and cuda:1 are of one kind, and numbers only count devices."""
    of = build_of(column)
    if of is None or value is None or (of == "devices" and not isinstance(value, str)):
        return None
    return re.sub(r"^(cuda|gpu|device|card|xpu|hip)[:\s_#-]*\d+$", r"\1", f"{value}", flags=re.IGNORECASE)


_VOCABULARY = "data.vocabulary_tokens"


def _value(run: StudyRun, asked: Asked) -> float | None:
    if run.result.status == "failed":
        return None
    if run.result.status == "diverged":
        return -math.inf if asked.evidence.goal == "maximize" else math.inf
    value = run.result.metric(asked.evidence.metric)
    if value is None:
        have = "a completed run must have the metric that judges it"
        raise StudyError(
            f'{asked.place} "metric": "{asked.evidence.metric}" is missing in arm "{run.arm}", seed {run.seed}; '
            f"{have}; choose another metric or make the trainer report it"
        )
    return value


def _arm_runs(name: str, arm: _Arm, asked: Asked) -> ArmRuns:
    found = list(zip(arm.keys, arm.facts, strict=True))
    declared = asked.arms[name]
    return ArmRuns(
        name=name,
        settings=dict(arm.settings) if declared is None else declared.settings,
        search=_by_seed((key, one.value) for key, one in found if one.stage in asked.chooses),
        confirm=_by_seed((key, one.value) for key, one in found if one.stage not in asked.chooses),
        test=arm.tests,
        factors=() if declared is None else declared.factors,
        crashed=tuple(dict.fromkeys(key for key, one in found if one.value is None)),
        evaluations=arm.evaluations,
        provenance=tuple(arm.provenance),
        facts=tuple(arm.facts),
    )


def _by_seed(values: Iterable[tuple[int, float | None]]) -> dict[int, float]:
    """The mean over the runs of a seed; infinite if one of them diverged."""
    found: dict[int, list[float]] = {}
    for seed, value in values:
        if value is not None:
            found.setdefault(seed, []).append(value)
    return {seed: some[0] if len(some) == 1 else math.fsum(some) / len(some) for seed, some in sorted(found.items())}


def _repeats(facts: Sequence[RunFacts]) -> bool:
    """Whether a seed stands twice with the same settings; the same run in another study repeats nothing there."""
    blocks = [
        (one.study, one.stage, one.seed, repr(sorted(one.settings.items(), key=str)))
        for one in facts
        if one.seed is not None
    ]
    return len(set(blocks)) < len(blocks)


def _evaluations(metric: str, result: RunResult) -> tuple[tuple[float, float], ...]:
    what = metric.removeprefix("val_")
    if what not in ("loss", "bits_per_byte", "perplexity"):
        return ()
    values = [(one.update, getattr(one.validation, what)) for one in result.evaluations]
    return tuple((update, value) for update, value in values if value is not None)


def _cost(done: Sequence[Done]) -> RunCost:
    counted = [(one.num_tokens, round(one.num_tokens * one.shared)) for one in done if one.num_tokens is not None]
    spent = [(one.num_flops, one.num_flops * one.shared) for one in done if one.num_flops is not None]
    timed = [one.train_seconds - one.shared_seconds for one in done if one.train_seconds is not None]
    return RunCost(
        runs=len(done),
        tokens=sum(num - saved for num, saved in counted) if len(counted) == len(done) else None,
        flops=sum((num - saved for num, saved in spent), 0.0) if len(spent) == len(done) else None,
        seconds=sum(timed, 0.0) if len(timed) == len(done) else None,
        shared_tokens=sum(saved for _, saved in counted),
        shared_flops=sum((saved for _, saved in spent), 0.0),
        shared_seconds=sum((one.shared_seconds for one in done), 0.0),
    )


def _passes(done: Sequence[Done], asked: Asked, texts: Texts) -> float | None:
    """How often the longest run saw its text."""
    longest: dict[tuple[str, str], int] = {}
    for one in done:
        longest[one.part, one.arm] = max(one.num_tokens or 0, longest.get((one.part, one.arm), 0))
    known = [
        (tokens, texts(asked.recipes[key]).train_tokens) for key, tokens in longest.items() if key in asked.recipes
    ]
    return max((tokens / unique for tokens, unique in known if unique is not None), default=None)


def _entropy(asked: Asked, done: Sequence[Done], texts: Texts) -> float | None:
    """The entropy in the metric's unit; nats per token from the bytes a token stands for, as the results show it."""
    recipe = next(iter(asked.recipes.values()), None)
    bits_per_byte = None if recipe is None else texts(recipe).entropy_bits_per_byte
    if bits_per_byte is None or asked.evidence.metric == "val_bits_per_byte":
        return bits_per_byte
    shown = next((one for one in done if one.bits_per_byte and one.val_loss is not None), None)
    if asked.evidence.metric != "val_loss" or shown is None or not shown.bits_per_byte or shown.val_loss is None:
        return None
    return bits_per_byte * shown.val_loss / shown.bits_per_byte


# --- Whether runs were what was declared, and held-out text was kept apart ---


def departure(recipe: Recipe, result: RunResult) -> tuple[str | None, int]:
    """Where a run left its recipe: the first rate that was not the planned one, in words, and the updates that a
    completed run has not made. A result without a count of updates is of a trainer that does not say."""
    used, planned = result.curve.learning_rate, planned_rates(recipe, result)
    pairs = enumerate(zip(used, planned, strict=False))
    place = next((at for at, (was, right) in pairs if abs(was - right) > RATE_TOLERANCE * abs(right)), None)
    rate = None if place is None else f"{used[place]:.4g} for {planned[place]:.4g} at update {place + 1}"
    if result.status != "completed":
        return rate, 0
    missing = max(recipe.num_updates - result.num_updates, 0) if result.num_updates else 0
    return rate, missing + sum(loss is None for loss in result.curve.train_loss)


def _late_loss(result: RunResult) -> float | None:
    """The training loss over the last tenth of a curve: that of one update is as noisy as its batch is small."""
    late = result.curve.train_loss[-max(1, len(result.curve.train_loss) // 10) :]
    finite = [loss for loss in late if loss is not None]
    return fmean(finite) if finite else result.metric("train_loss")


def planned_rates(recipe: Recipe, result: RunResult) -> list[float]:
    """The matrices' rate at each update, with the cuts that the evaluations make an adaptive schedule decide."""
    seen = [(one.update, one.validation.loss) for one in result.evaluations]
    peak = peak_rates(recipe.optimizer)["matrices"]
    return [peak * height for height in multipliers(recipe.schedule, recipe.num_updates, seen)]


def departures(done: Sequence[Done]) -> list[Audit]:
    """Rates that were not planned, and updates that were not made: a completed run must have made all of its."""
    found = []
    rates = {one.arm: one.wrong_rate for one in reversed(done) if one.wrong_rate is not None}
    if rates:
        names = list(reversed(rates))
        message = (
            f"{words.listing(names)}: the rate really used is not the declared one ({names[0]}: {rates[names[0]]})"
        )
        remedy = "make the trainer use the recipe's rate at every update, and run again"
        found.append(block("schedule", message, remedy))
    skipped = [one for one in done if one.skipped_updates]
    if skipped:
        names = list(dict.fromkeys(one.arm for one in skipped))
        most = words.count(max(one.skipped_updates for one in skipped), "update")
        message = f"{words.listing(names)} skipped up to {most} and count as success; a step not made is no training"
        remedy = "count the runs as diverged, or lower the rate until none is skipped"
        found.append(block("diverged", message, remedy))
    return found


def known_too_well(done: Sequence[Done], passes: float) -> list[Audit]:
    """Of runs that saw their text `passes` times: held-out text that they know better."""
    suspects = [
        one.arm
        for one in done
        if one.train_loss is not None
        and one.val_loss is not None
        and one.val_loss < (1 - BELOW_TRAINING) * one.train_loss
    ]
    if passes < SEVERAL_PASSES or not suspects:
        return []
    message = (
        f"{words.listing(list(dict.fromkeys(suspects)))}: validation loss below training loss after "
        f"{passes:.1f} passes; text seen so often should be known better than text never seen"
    )
    return [block("leak", message, "split documents, not windows, and look for validation text in training")]


def shared_text(recipes: Iterable[Recipe], texts: Texts) -> list[Audit]:
    """Held-out text that was trained on, word for word, in any of the texts of a study's recipes."""
    longest: dict[str, Recipe] = {}
    for recipe in recipes:  # of beginnings of one text the longest holds the others
        whole = recipe.data.model_copy(update={"max_train_tokens": None}).model_dump_json()
        before = longest.setdefault(whole, recipe)
        if (recipe.data.max_train_tokens or math.inf) > (before.data.max_train_tokens or math.inf):
            longest[whole] = recipe
    found = []
    for shared in (texts(recipe).shared_windows for recipe in longest.values()):
        if shared is not None and (share := shared()) > MOST_SHARED_WINDOWS:
            windows = f"validation windows of {WINDOW_TOKENS} tokens"
            message = f"{share:.1%} of the {windows} are in the training text word for word"
            remedy = "split documents, not windows, and leave out documents that stand twice"
            found.append(block("leak", message, remedy))
    return found
