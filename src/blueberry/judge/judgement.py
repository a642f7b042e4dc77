"""What the runs of a study support: frozen records, and the whole of `insights.json`.

A number that does not exist is None; a diverged run's metric is infinite and is written "inf".
`judgement.to_dict()` is the contract (schema `blueberry/insights/1`, docs/insights.md).
"""

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

SCHEMA = "blueberry/insights/1"

Status = Literal["best", "unresolved", "worse", "diverged"]


class Finding(BaseModel):
    """Frozen; infinities allowed (a diverged run), NaN never."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ArmSummary(Finding):
    """One arm over the seeds that search."""

    arm: str
    settings: dict[str, Any]
    n: int
    """Runs that ended, diverged ones included."""
    mean: float | None
    """Of the metric; infinite when a run diverged, None when no run ended."""
    sd: float | None
    """Between seeds; None below two finite values."""
    interval: tuple[float, float] | None = None
    """t interval of the mean at level 1 - alpha; None below two finite values."""
    status: Status
    num_diverged: int = 0
    seeds: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    """One a seed, in the order of `seeds`; infinite where the run diverged."""


class Noise(Finding):
    """How much repeats of one arm differ, measured from this study's own runs."""

    sd: float | None
    """Of one run around its arm's mean, pooled over arms."""
    rho: float | None
    """Correlation between two arms' results on the same seed."""
    paired_sd: float | None
    """Of the difference of two arms on the same seed, pooled: what decides how many seeds are needed."""
    n: int
    """Runs that entered."""


class Best(Finding):
    """The arm with the least mean. Its number is reported from fresh seeds when there are any."""

    arm: str
    settings: dict[str, Any]
    mean: float
    """From the confirming seeds if confirmed, else from the seeds that chose it."""
    interval: tuple[float, float] | None
    n: int
    confirmed: bool
    search_mean: float
    """From the seeds that chose it: flattering, because it was chosen."""
    test_mean: float | None = None
    """The same arm on the test set, which selected nothing; over the same runs as `mean`."""


class Optimum(Finding):
    """Where on the axis the expected loss is least."""

    setting: str
    estimate: float
    interval: tuple[float, float]
    level: float


class Bound(Finding):
    """All that is known of an optimum at the end of the range: on which side of `bound` it lies."""

    setting: str
    bound: float
    side: Literal["below", "above"]


class Verdict(Finding):
    """Two arms, paired by seed. `difference` is b - a in the metric."""

    a: str
    b: str
    difference: float | None
    interval: tuple[float, float] | None
    """Simultaneous: all differences of a study lie in theirs with probability 1 - alpha."""
    n: int
    verdict: Literal["winner", "tie", "inconclusive"]
    winner: str | None
    more_seeds: int | None
    """That would settle it with power .8; None when settled or unknown."""


class Ranges(Finding):
    """Values of the varied setting. None where the runs do not support one."""

    optimal: tuple[float, float] | None = None
    """Ends of the unresolved set."""
    conservative: float | None = None
    """Lowest value not worse than the best by min_effect, without a failure."""
    fast: float | None = None
    """Value with the least mean updates to reach the target loss (the worst unresolved arm's final loss)."""
    unstable_from: float | None = None
    """Lowest value with a run that diverged or ended above the loss of guessing uniformly."""


class Audit(Finding):
    audit: str
    severity: Literal["block", "warn"]
    message: str
    remedy: str


class Recommendation(Finding):
    """Either settings and a text, or the reason why nothing is recommended."""

    settings: dict[str, Any] | None = None
    text: str | None = None
    withheld: str | None = None


class RunCost(Finding):
    runs: int
    tokens: int
    flops: float
    seconds: float


class Judgement(Finding):
    """All that a study's runs support, and nothing else."""

    question: str
    metric: str
    min_effect: float
    alpha: float
    vary: tuple[str, ...]
    """The varied settings, the axis of the curve first."""
    arms: tuple[ArmSummary, ...]
    noise: Noise
    best: Best | None
    unresolved: tuple[str, ...]
    ended: Literal["settled", "maximum"] | None = None
    """How a race ended: every question was settled, or the seeds it may use were. None: it has not, or was none."""
    optimum: Optimum | Bound | None
    verdicts: tuple[Verdict, ...]
    """The best arm (a) against each other arm (b); then the arm named "baseline" (a), if it is not the best."""
    ranges: Ranges
    audits: tuple[Audit, ...]
    recommendation: Recommendation
    cost: RunCost
    known: str
    """One sentence: what these runs show."""
    unknown: str
    """One sentence: what they do not, and what would."""

    def to_dict(self) -> dict[str, Any]:
        """The contents of `insights.json`: plain JSON values, infinities as "inf"."""
        body = {name: _plain(value) for name, value in self.model_dump().items()}
        recommendation = {name: value for name, value in body["recommendation"].items() if value is not None}
        return {"schema": SCHEMA, **body, "recommendation": recommendation}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
