"""What a judgement is made from: numbers by arm and seed. Knows neither studies nor trainers nor tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from blueberry.judge.judgement import RunCost
from blueberry.records import Provenance

BASELINE = "baseline"
"""The arm that the others are also compared with, when there is one of this name."""


@dataclass(frozen=True)
class ArmRuns:
    """One arm's runs. A metric is infinite where the run diverged; a seed without an ended run is absent."""

    name: str
    settings: Mapping[str, Any]
    search: Mapping[int, float]
    """Metric by seed, over the seeds that choose."""
    confirm: Mapping[int, float] = field(default_factory=dict)
    """The same over fresh seeds, which chose nothing."""
    test: Mapping[int, float] = field(default_factory=dict)
    """The metric's twin on the test set, by seed, searching and confirming."""
    crashed: tuple[int, ...] = ()
    """Seeds whose run ended without a result, so that it is missing above."""
    evaluations: Mapping[int, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    """(updates done, metric) by searching seed, ascending; for "fastest to a target"."""
    provenance: tuple[Provenance, ...] = ()
    """What computed the runs, each distinct one once."""


@dataclass(frozen=True)
class Evidence:
    """A question and the runs that bear on it. What is not known is None, and audits that need it stay silent."""

    question: str
    metric: str
    """Lower is better."""
    min_effect: float
    """The smallest difference that matters, stated beforehand, in units of the metric."""
    alpha: float
    vary: tuple[str, ...]
    """The varied settings, the axis of the curve first."""
    arms: tuple[ArmRuns, ...]
    scale: Literal["log", "linear"] | None = None
    """Of the first varied setting; None: log when all are positive and it is a learning rate or spans a factor of 8."""
    looks: int = 1
    """How often the runs are judged in all, when the number of seeds depends on what was seen; 1 for a fixed design."""
    look_seeds: tuple[int, ...] = ()
    """Of a race: how many seeds there are at each look, the last being the most there may be. Empty: a fixed design."""
    num_unfinished: int = 0
    """Runs that the design asks for and that have not ended (crashed ones are counted by arm)."""
    repeated_seeds: tuple[str, ...] = ()
    """Arms that have one seed value more than once."""
    states_success: bool = False
    """The source says itself of each run that it succeeded (a table's status column), so that it can be wrong."""
    guessing_loss: float | None = None
    """ln(vocabulary), nats: the loss of guessing uniformly. None if unknown or the metric is not a loss in nats."""
    entropy: float | None = None
    """The least expected value of the metric that the corpus allows; known for synthetic text only."""
    passes: float | None = None
    """Tokens consumed over unique training tokens, in the longest run."""
    cost: RunCost = field(default_factory=lambda: RunCost(runs=0, tokens=0, flops=0.0, seconds=0.0))
