"""What the runs of a study support: frozen records of numbers, and the whole of `insights.json`.

A number that does not exist is None; a diverged run's metric is infinite and is written "inf" or "-inf".
`judgement.to_dict()` is the contract (schema `blueberry/insights/1`, docs/insights.md). The sentences of a judgement
are computed from its numbers, see `blueberry.judge.sentences`.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from blueberry.judge import words
from blueberry.judge.answers import (
    AxisAnswer,
    Cleared,
    Condition,
    Covered,
    Effect,
    Failures,
    Finding,
    Gain,
    Law,
    Located,
    Pooled,
    Robustness,
    Stack,
    Valley,
)
from blueberry.records import Goal, is_number

SCHEMA = "blueberry/insights/1"
BASELINE = "baseline"
"""The arm that the others are also compared with, when there is one of this name."""
LEAST_BLOCKS = 3
"""Runs of an arm, or seeds that two share, below which nothing is told from chance by their own noise."""

Status = Literal["best", "unresolved", "worse", "diverged"]
Pattern = Literal["fast", "moderate", "slow", "unstable"]


class Axis(Finding):
    """The first varied setting, where it is a number in every arm."""

    setting: str
    values: tuple[float, ...]
    """Distinct, ascending, two or more."""
    scale: Literal["log", "linear"]
    """As declared; else log when all values are positive and it is a learning rate or spans a factor of 8."""

    @property
    def is_log(self) -> bool:
        return self.scale == "log"


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
    sd_interval: tuple[float, float] | None = None
    """Of that sd, at level 1 - alpha."""
    interval: tuple[float, float] | None = None
    """t interval of the mean at level 1 - alpha; None below two finite values."""
    status: Status
    num_diverged: int = 0
    num_crashed: int = 0
    """Runs that left no result."""
    seeds: tuple[int | None, ...] = ()
    """None: of a run whose seed nobody said."""
    values: tuple[float, ...] = ()
    """One a seed, in the order of `seeds`; infinite where the run diverged."""


class Noise(Finding):
    """How much repeats of one arm differ, measured from this study's own runs."""

    sd: float | None
    """Of one run around its arm's mean, of a typical arm."""
    rho: float | None
    """Correlation between two arms' results on the same seed."""
    paired_sd: float | None
    """Of the difference of two arms on the same seed: what decides how many seeds are needed. None where no seeds are
    shared."""
    n: int
    """Runs that entered."""
    prior_df: float | None = None
    """How alike the arms are in noise: degrees of freedom of the distribution that their variances come from; infinite
    where nothing says that they differ. None where no arm is repeated."""
    borrowed_sd: float | None = None
    """Of one run, from elsewhere: what every difference is judged with in place of the above."""
    borrowed_df: float | None = None
    """Infinite where it is taken as known."""
    borrowed_from: str | None = None


class Detectable(Finding):
    """What so many seeds can show, at the noise of these runs and at the level of the verdicts."""

    seeds: int
    difference: float
    """Of an arm and the baseline, else the best: the smallest that is found with power .8, whatever others do."""


class Best(Finding):
    """The arm with the least mean, or the greatest. Its number is reported from fresh seeds when there are any."""

    arm: str
    settings: dict[str, Any]
    mean: float
    """From the confirming seeds if confirmed, else from the seeds that chose it."""
    interval: tuple[float, float] | None
    sd: float | None = None
    """Between the runs behind `mean`; None below two finite ones."""
    n: int
    confirmed: bool
    search_mean: float
    """From the seeds that chose it: flattering, because it was chosen. Of a value between those that were searched,
    what the valley expects."""
    test_mean: float | None = None
    """The same arm on the test set, which selected nothing; over the same runs as `mean`."""


class Optimum(Finding):
    """Where on the axis the expected loss is least."""

    setting: str
    estimate: float
    interval: tuple[float, float]
    level: float
    assumption: str = "the curve is one smooth valley along the axis"


class Bound(Finding):
    """All that is known of an optimum at the end of the range: on which side of `bound` it lies."""

    setting: str
    bound: float
    side: Literal["below", "above"]


class Verdict(Finding):
    """Two arms. `difference` is b - a in the metric."""

    a: str
    b: str
    difference: float | None
    interval: tuple[float, float] | None
    """That decides: it excludes 0 exactly where there is a winner. None where nothing may be told apart."""
    n: int
    """Pairs; of unpaired runs those of the arm that has fewer."""
    runs: tuple[int, int] = (0, 0)
    """Of a and of b."""
    paired: bool = True
    """Whether the difference is taken within seeds; else all runs of one arm against all of the other."""
    sigma: Literal["measured", "borrowed"] = "measured"
    """Whose noise the interval rests on: these runs', or another's that was given."""
    by: Literal["means", "best run"] = "means"
    """What was compared. Of an arm whose runs blow up, so that its mean tells nothing, its best run may stand for it
    against the other's mean: it is worse only if every run of it is."""
    verdict: Literal["winner", "tie", "inconclusive"]
    winner: str | None
    more_seeds: int | None
    """That would settle it with power .8; None when settled or unknown."""

    @property
    def pairing(self) -> str:
        """What the difference was taken between, in words."""
        said = words.pairing(self.n, self.runs, is_paired=self.paired, is_borrowed=self.sigma == "borrowed")
        return said if self.by == "means" else f"{said}, by the best run of the unstable arm"

    def turned(self) -> "Verdict":
        """The same, said of the two the other way round."""
        ends = self.interval
        return self.model_copy(
            update={
                "a": self.b,
                "b": self.a,
                "difference": None if self.difference is None else -self.difference,
                "interval": None if ends is None else (-ends[1], -ends[0]),
                "runs": self.runs[::-1],
            }
        )


class Ranges(Finding):
    """Values of the varied setting. None where the runs do not support one."""

    optimal: tuple[float, float] | None = None
    """Ends of the unresolved set."""
    conservative: float | None = None
    """Lowest value not worse than the best by min_effect, without a failure."""
    fast: float | None = None
    """Value with the least median updates to the final loss of the worst unresolved arm, within its own schedule."""
    unstable_from: float | None = None
    """Lowest value with a run that diverged or ended above the loss of guessing uniformly."""


class Audit(Finding):
    audit: str
    severity: Literal["block", "warn"]
    message: str
    remedy: str


def block(name: str, message: str, remedy: str) -> Audit:
    """The claim is withheld."""
    return Audit(audit=name, severity="block", message=message, remedy=remedy)


def warn(name: str, message: str, remedy: str) -> Audit:
    """Said, and no more."""
    return Audit(audit=name, severity="warn", message=message, remedy=remedy)


def blocking_first(found: Iterable[Audit]) -> tuple[Audit, ...]:
    """Each finding once, in order, those that block before the rest."""
    return tuple(sorted(dict.fromkeys(found), key=lambda finding: finding.severity != "block"))


def placed(found: Iterable[Audit], name: str, place: str = "") -> list[Audit]:
    """With where they were found before their messages, but for those that begin with the file's name already."""
    return [
        one if one.message.startswith(name) else one.model_copy(update={"message": f"{place or name}: {one.message}"})
        for one in found
    ]


class CurveFinding(Finding):
    """Something that an arm's learning curves show, with its evidence. Rules: docs/curves.md."""

    arm: str
    finding: Literal["pattern", "spikes", "overfitting", "collapse", "divergence"]
    severity: Literal["note", "warn"]
    message: str
    pattern: Pattern | None = None
    """How the training loss fell; only of the finding "pattern"."""
    seeds: tuple[int, ...]
    """Of the runs that show it."""
    n: int
    """Runs that were looked at."""
    update: int | None = None
    """Where it begins, counted from 1; of overfitting, where the validation loss was lowest."""
    value: float | None = None
    """How large it is, in `unit`."""
    interval: tuple[float, float] | None = None
    """Of the value, over the runs."""
    unit: str | None = None


class Recommendation(Finding):
    """Either settings and a text, or the reason why nothing is recommended."""

    settings: dict[str, Any] | None = None
    text: str | None = None
    withheld: str | None = None


class Purpose(Finding):
    """What to use, or to avoid, for one purpose: either evidence, or why nothing is supported."""

    purpose: Literal["production", "conservative", "fast", "avoid"]
    arms: tuple[str, ...] = ()
    settings: dict[str, Any] | None = None
    """Of the one arm; of what to avoid on an axis, the lowest value."""
    evidence: str | None = None
    because: str | None = None
    """Not supported, because ..."""


class RunCost(Finding):
    """What was really computed. Updates that a run took over from another are in that one's cost only."""

    runs: int
    tokens: int | None
    """None where a trainer that is not ours counted none."""
    flops: float | None
    seconds: float | None
    """None where a run that ended does not say how long it trained."""
    shared_tokens: int = 0
    """Of the tokens that runs stand for, those that they did not train on themselves."""
    shared_flops: float = 0.0
    shared_seconds: float = 0.0
    """What they took where they were trained."""


class Part(Finding):
    """One part of a study made of parts, judged by itself."""

    name: str
    settings: dict[str, Any]
    """What tells this part from the others."""
    covers: tuple[Covered, ...]
    """How far its search has looked."""
    judgement: "Judgement"


class Judgement(Finding):
    """All that a study's runs support, and nothing else."""

    question: str
    metric: str
    goal: Goal = "minimize"
    """What is better: less of the metric, or more."""
    min_effect: float
    alpha: float
    vary: tuple[str, ...]
    """The varied settings, the axis of the curve first."""
    is_seeded: bool = True
    """False where no run says its seed: then no two arms are compared seed by seed."""
    axis: Axis | None = None
    """None where the first varied setting is not a number in every arm."""
    arms: tuple[ArmSummary, ...]
    noise: Noise
    detectable: Detectable | None = None
    """None while the noise of a difference is unknown."""
    num_unfinished: int = 0
    """Runs of the design that have not ended."""
    best: Best | None = None
    unresolved: tuple[str, ...] = ()
    ended: Literal["settled", "maximum"] | None = None
    """How a race ended: every question was settled, or the seeds it may use were. None: it has not, or was none."""
    looks: tuple[int, ...] = ()
    """Of a race: how many seeds there are at each look, the last being the most there may be. Empty: was none."""
    looks_taken: int = 0
    """Of those, from the first."""
    optimum: Optimum | Bound | None = None
    valley: Valley | None = None
    """What the optimum was read from."""
    located: Located | None = None
    """None where the arms were not searched for along an axis."""
    verdicts: tuple[Verdict, ...] = ()
    """Of each other arm (b) against the best (a), in a race perhaps against the arm that led when it was dropped; then
    against the arm named "baseline" (a), if it is not the best."""
    ranges: Ranges = Ranges()
    axis_answer: AxisAnswer | None = None
    """None where the arms do not lie along one numeric setting."""
    target: float | None = None
    """Of the metric, fixed beforehand; None where there was none."""
    cleared: tuple[Cleared, ...] = ()
    """Which arms clear it, in the order of the arms."""
    failures: tuple[Failures, ...] = ()
    """In the order of the arms."""
    audits: tuple[Audit, ...]
    recommendation: Recommendation = Recommendation()
    purposes: tuple[Purpose, ...] = ()
    """Production, conservative, fast, avoid; conservative and fast only where the arms lie along a numeric setting."""
    cost: RunCost
    known: str = ""
    """One sentence: what these runs show."""
    unknown: str = ""
    """One sentence: what they do not, and what would."""
    parts: tuple[Part, ...] = ()
    """Of a study made of parts. With [tune] the arms are these, each at its own best; with [across] nothing is
    compared between them, and `conditions` and `laws` say what moves."""
    conditions: tuple[Condition, ...] = ()
    laws: tuple[Law, ...] = ()
    gains: tuple[Gain, ...] = ()
    """Of arms beside a baseline at several lengths."""
    robustness: Robustness | None = None
    effects: tuple[Effect, ...] = ()
    """Of an ablation: each change, and each two together."""
    pooled: Pooled | None = None
    """What serves as the noise of effects where every arm was run once; None where runs are repeated."""
    stack: Stack | None = None
    findings: tuple[CurveFinding, ...] = ()
    """What the learning curves show, arm by arm. No claim rests on them."""

    @property
    def sweep(self) -> Axis | None:
        """The axis, where the arms differ in nothing else and each has a value of its own; they ascend along it."""
        alone = self.axis is not None and len(self.vary) == 1 and len(self.axis.values) == len(self.arms)
        return self.axis if alone else None

    @property
    def sign(self) -> float:
        """Times this, a difference below 0 is for the better."""
        return -1.0 if self.goal == "maximize" else 1.0

    @property
    def is_across(self) -> bool:
        """Whether the arms are the conditions of [across], each with its own best: these are not compared."""
        return bool(self.conditions)

    @property
    def is_located(self) -> bool:
        """Whether the answer is a search's along one axis, read off a valley."""
        return self.located is not None and not self.located.is_broken and self.best is not None

    @property
    def can_judge(self) -> bool:
        """Whether any two arms may be told apart. Where not, none is called better or worse than another."""
        looked = not self.looks or self.looks_taken > 0
        counts = [arm.n for arm in self.arms if not arm.num_diverged] or [arm.n for arm in self.arms]
        if self.noise.borrowed_sd is not None:
            return looked and any(counts)
        enough = sum(count >= LEAST_BLOCKS for count in counts) >= min(len(counts), 2) > 0
        return looked and enough and self.noise.sd is not None

    def arm(self, name: str) -> ArmSummary:
        """Raises: KeyError if there is none of this name."""
        return {arm.arm: arm for arm in self.arms}[name]

    @property
    def blocks(self) -> tuple[Audit, ...]:
        """The audits that block: while there is one, nothing is recommended."""
        return tuple(audit for audit in self.audits if audit.severity == "block")

    @property
    def withholds_differences(self) -> bool:
        """Whether an audit blocks that an arm is better; `edge` does not: it doubts only that the best was tried."""
        return any(audit.audit != "edge" for audit in self.blocks)

    @property
    def best_value(self) -> float | None:
        """The best arm's value of the one setting that varies; None where it is no number."""
        value = self.best.settings.get(self.vary[0]) if self.best is not None and len(self.vary) == 1 else None
        return float(value) if is_number(value) else None

    def verdict(self, a: str, b: str) -> Verdict | None:
        """On arm b against arm a, turned round where it is stored the other way; None where these were not compared."""
        for verdict in self.verdicts:
            if (verdict.a, verdict.b) == (a, b):
                return verdict
            if (verdict.a, verdict.b) == (b, a):
                return verdict.turned()
        return None

    def against_best(self, name: str) -> Verdict | None:
        """On this arm against the best, or the arm that led when a race dropped it; None for the best itself."""
        if self.best is None or name == self.best.arm:
            return None
        return next((verdict for verdict in self.verdicts if verdict.b == name), None)

    def to_dict(self) -> dict[str, Any]:
        """The contents of `insights.json`: plain JSON values, infinities as "inf"."""
        body = {name: plain(value) for name, value in self.model_dump(exclude={"parts"}).items()}
        recommendation = {name: value for name, value in body["recommendation"].items() if value is not None}
        parts = [
            {**plain(part.model_dump(exclude={"judgement"})), "judgement": part.judgement.to_dict()}
            for part in self.parts
        ]
        return {"schema": SCHEMA, **body, "recommendation": recommendation, "parts": parts}


def plain(value: Any) -> Any:
    """The same as JSON can hold it: infinities as "inf" and "-inf"."""
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def what_blocks(judgement: Judgement) -> str:
    """What the blocking audits found and what would mend it, in sentences; empty where none blocks."""
    return " Also, ".join(
        f"{audit.message}. {audit.remedy[0].upper()}{audit.remedy[1:]}." for audit in judgement.blocks
    )


def why_withheld(audits: Sequence[Audit]) -> str | None:
    """The reason why nothing may be recommended; None where no audit blocks."""
    return "; ".join(f"{audit.audit}: {audit.message}" for audit in audits if audit.severity == "block") or None
