"""What a judgement is made from: numbers by arm and seed. Knows neither studies nor trainers nor tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from blueberry.judge.judgement import BASELINE, Audit, CurveFinding, RunCost
from blueberry.records import Provenance, Stage
from blueberry.stats.locate import Search
from blueberry.stats.noise import Borrowed

__all__ = ["BASELINE", "ArmRuns", "Evidence", "RunFacts"]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the audits look at in one run, without its curves; None where nobody said."""

    seed: int | None
    value: float | None
    """The metric: infinite where the run diverged, None where it left no result."""
    stage: Stage = "search"
    place: str = ""
    """Where it was read, e.g. "runs.csv line 4"."""
    study: str | None = None
    lengths: Mapping[str, float] = field(default_factory=dict)
    """How long it was, by name: updates, tokens, flops, and whatever else a program or a table counts."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a table or a program says it was given, beside what varies."""
    builds: Mapping[str, str] = field(default_factory=dict)
    """What a table says of the device that it ran on and the code that made it, by column."""
    train_seconds: float | None = None
    train_loss: float | None = None
    """At the end of training, nats per token."""
    val_loss: float | None = None
    val_bits_per_byte: float | None = None
    val_accuracy: float | None = None
    """Fraction of tokens."""
    val_perplexity: float | None = None
    """As a table or a program states it."""
    vocabulary: float | None = None
    """Entries."""
    digits: Mapping[str, float] = field(default_factory=dict)
    """By metric, half a unit of the last digit it was printed with, where it was rounded."""


@dataclass(frozen=True)
class ArmRuns:
    """One arm's runs. A metric is infinite where the run diverged (minus infinity where more is better); a seed without
    an ended run is absent. Of runs without a seed the keys are numbers below 0 that no other arm has."""

    name: str
    settings: Mapping[str, Any]
    search: Mapping[int, float]
    """Metric by seed, over the seeds that choose."""
    confirm: Mapping[int, float] = field(default_factory=dict)
    """The same over fresh seeds, which chose nothing."""
    test: Mapping[int, float] = field(default_factory=dict)
    """The metric's twin on the test set, by seed, searching and confirming."""
    factors: tuple[str, ...] = ()
    """The named changes it holds; none for the baseline and on an axis."""
    crashed: tuple[int, ...] = ()
    """Seeds whose run ended without a result, so that it is missing above."""
    evaluations: Mapping[int, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """(updates done, or a table's steps; metric) by searching seed, ascending; for the first at a target."""
    provenance: tuple[Provenance, ...] = ()
    """What computed the runs, each distinct one once."""
    facts: tuple[RunFacts, ...] = ()
    """One a run, repeats of a seed and runs without a result included."""

    def by_build(self) -> "ArmRuns":
        """With what each run was made by in the place of its settings."""
        return replace(self, facts=tuple(replace(one, settings=one.builds) for one in self.facts))


@dataclass(frozen=True)
class Evidence:
    """A question and the runs that bear on it. What is not known is None, and audits that need it stay silent."""

    question: str
    metric: str
    min_effect: float
    """The smallest difference that matters, stated beforehand, in units of the metric."""
    alpha: float
    vary: tuple[str, ...]
    """The varied settings, the axis of the curve first."""
    arms: tuple[ArmRuns, ...]
    goal: Literal["minimize", "maximize"] = "minimize"
    """Values are in the metric's own unit whichever it is; a diverged run is minus infinity where more is better."""
    source: Literal["study", "program", "table"] = "study"
    """Who trained the runs: the built-in trainer, the program of a study's [trainer], or whoever filled a table."""
    is_seeded: bool = True
    """False where no run says its seed: then the keys of `search` only number the runs, and no two arms share one."""
    names_arms: bool = False
    """What varies are names, so that any setting may be what they stand for."""
    loop: str | None = None
    """Where the table is one of a loop that keeps and discards changes, its path."""
    reach: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Ends of the ranges that values were proposed from, by setting; a grid's ends are its outermost values."""
    scale: Literal["log", "linear"] | None = None
    """Of the first varied setting; None: log when all are positive and it is a learning rate or spans a factor of 8."""
    looks: int = 1
    """How often the runs are judged in all, when the number of seeds depends on what was seen; 1 for a fixed design."""
    look_seeds: tuple[int, ...] = ()
    """Of a race: how many seeds there are at each look, the last being the most there may be. Empty: a fixed design."""
    target: float | None = None
    """Of the metric, fixed beforehand, that runs should clear."""
    borrowed: Borrowed | None = None
    """The noise to judge with, in the metric's unit, in place of what the runs themselves show."""
    search: Search | None = None
    """How a search along the axis ended; its values are turned so that lower is better."""
    num_unfinished: int = 0
    """Runs that the design asks for and that have not ended (crashed ones are counted by arm)."""
    repeated_seeds: tuple[str, ...] = ()
    """Arms that have one seed value more than once."""
    states_success: bool = False
    """The source says itself of each run that it succeeded (a table's status column), so that it can be wrong."""
    is_of_text: bool = True
    """Not where errors of numbers or pictures (a root mean square) stand beside the losses, which are then no nats."""
    guessing_loss: float | None = None
    """ln(vocabulary), nats: the loss of guessing uniformly. None if unknown or the metric is not a loss in nats."""
    entropy: float | None = None
    """The least expected value of the metric that the corpus allows; known for synthetic text only."""
    passes: float | None = None
    """Tokens consumed over unique training tokens, in the longest run."""
    at_one_rate: tuple[str, ...] = ()
    """Settings of schedule or architecture that vary while the learning rate does not."""
    audits: tuple[Audit, ...] = ()
    """What was found where the evidence was gathered: in the design, or in how runs were carried out."""
    cost: RunCost = field(default_factory=lambda: RunCost(runs=0, tokens=0, flops=0.0, seconds=0.0))
    findings: tuple[CurveFinding, ...] = ()
    """What the learning curves show, arm by arm; empty where there are none."""

    @property
    def passed_on(self) -> dict[str, Any]:
        """What a judgement says as it is here."""
        names = ("question", "metric", "goal", "min_effect", "alpha", "vary", "is_seeded", "num_unfinished", "cost")
        return {name: getattr(self, name) for name in names}
