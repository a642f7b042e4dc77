"""What training gives back: frozen records, the only thing that passes from a trainer to a study.

Losses are nats per token. What was not measured is None, never 0.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard

from pydantic import BaseModel, ConfigDict, Field

from blueberry.files import printable

MEASURED = ("loss", "bits_per_byte", "accuracy", "perplexity")
"""What can be asked of `Metrics` by name."""
Goal = Literal["minimize", "maximize"]
_WORDS_OF_LESS = re.compile(
    r"loss(es)?|nll|nelbo|neg(ative)?|logloss|ce|xent|bpd|brier|ece|eer|ter|mape|smape|fvd|kid|lpips|hausdorff|crps"
    r"|errors?|err|regret|perplexit(y|ies)|ppl|entropy|divergence|kl|bits|bp[bc]|[cw]er|fid|rmse|mse|mae"
    r"|gap|distance|variance|sd|std|cost|time|latency|seconds?|secs?|hours?|ms|steps?|updates?|epochs?|bytes|memory|dead|dropped"
)
_WORDS_OF_MORE = re.compile(
    r"ll|(log_?)?lik(elihood)?|loglike|logprobs?|elbo|iwae|em|exact|kappa|mcc|cider|spice"
    r"|sari|bleurt|bertscore|comet|rouge\w*|map\d*|ap\d*"
    r"|pearson|spearman|corr(elation)?|snr|sdr|pesq|stoi|mos|mmlu|hellaswag|winogrande|piqa|boolq"
    r"|gsm8k|humaneval|mbpp|truthfulqa"
    r"|acc(uracy|uracies)?\d*|f\d|bleu\d*|chrf|meteor|auc|auroc|auprc|rewards?|returns?|f?scores?"
    r"|precision|recall|r2|mfu|throughput|utili[sz]ation|matche?s?|win(rate|s)?|success(es)?|pass(ed)?|solved"
    r"|correct|m?iou|dice|mrr|ndcg|hits?|psnr|ssim|elo|top\d+|speedup"
)


def goal_of(metric: str) -> Goal | None:
    """What a metric's name says is better: less of it or more; None where it does not say."""
    words = re.sub(r"[^a-z0-9]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", metric).lower()).split()
    if "per" in words[:-1] and re.fullmatch(r"s|sec|second|hour|day", words[words.index("per") + 1]):
        return "maximize"  # tokens per second
    if re.search(r"(?<![a-z])[rp]@\d", metric.lower()):
        return "maximize"  # recall or precision of the first few
    if any(map(_WORDS_OF_LESS.fullmatch, words)):
        return "minimize"
    return "maximize" if any(map(_WORDS_OF_MORE.fullmatch, words)) else None


LARGEST_INTEGER = 2**63 - 1
"""TOML's own limit, which Python's parser does not keep."""
SMALLEST, LARGEST = 1e-100, 1e100
"""Of a number's size: no setting means anything beyond, and sums over squares and logarithms stay finite."""


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is an int or a float, of any size; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_usable_number(value: Any) -> TypeGuard[float]:
    """Whether it is a number that can be reckoned with."""
    if not is_number(value):
        return False
    return abs(value) <= LARGEST_INTEGER if isinstance(value, int) else value == 0 or SMALLEST <= abs(value) <= LARGEST


class Record(BaseModel):
    """Frozen; unknown keys refused; NaN and infinity refused, because a missing number is None."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="null")


class Failure(Record):
    """Why a run has no final loss."""

    kind: Literal["diverged", "crashed"]
    update: int | None = None
    """The update, counted from 1, whose loss or gradient was not finite."""
    message: str = ""


class Metrics(Record):
    """A model measured on one fixed set of tokens."""

    loss: float
    """Mean negative log likelihood, nats per token."""
    bits_per_byte: float | None
    """The same in bits per byte of the text those tokens stand for; None where a tokenizer does not say how many."""
    accuracy: float | None
    """Fraction of tokens whose most likely prediction is right; None where nobody said."""
    num_tokens: int | None
    """Measured on; None where nobody said."""

    @property
    def perplexity(self) -> float | None:
        """exp(loss), never capped; None where a float cannot hold it."""
        from math import exp

        return exp(self.loss) if self.loss < 709 else None


class GroupStatistics(Record):
    """One group of weights at the update that an evaluation follows. Norms are over all of the group's weights."""

    group: str
    """matrices, router, embedding, head or norms."""
    learning_rate: float
    """Really used: the peak rate of the group times the schedule's multiplier; before Muon scales by shape."""
    gradient_norm: float | None
    """Before clipping. None where it was not finite."""
    update_fraction: float | None
    """Norm of what the update changed over norm of the weights before it. None where there is no such number."""


class RateCut(Record):
    """A decision of an adaptive schedule."""

    update: int
    """Updates done when it was taken, counted from 1; those after it have the new rate."""
    multiplier: float
    """Of the rate before any cut, from then on."""


class Routing(Record):
    """How evenly the experts shared a set of tokens, without router noise; one number a layer, first to last."""

    max_load_ratio: tuple[float, ...]
    """The busiest expert's assignments over an equal share: 1 is even, num_experts / top_k the most there can be."""
    load_entropy_nats: tuple[float, ...]
    """Of the experts' shares of the assignments: ln num_experts is even, ln top_k the least there can be."""
    dropped_fraction: float
    """Of the assignments of all layers, those that no expert took; 0 as there is no limit to what one takes."""
    dead_experts: tuple[int, ...] = ()
    """How many received less than a hundredth of an even share; empty where it was not counted."""


class Evaluation(Record):
    """The validation set after an update."""

    update: int
    """Updates done, counted from 1."""
    tokens: int | None
    """Training tokens consumed until then; None where nobody counted."""
    seconds: float | None
    """Training time until then, without evaluations; None where nobody measured it."""
    validation: Metrics
    groups: tuple[GroupStatistics, ...] = ()
    """How that update moved each group of weights; empty from a trainer that does not measure it."""
    routing: Routing | None = None
    """Of the validation tokens; None without experts."""
    sets: dict[str, Metrics] = Field(default_factory=dict)
    """Further held-out text by name: each corpus of a mixture, and `data.sets`."""


class Curve(Record):
    """What was recorded at every update, first to last: equally long tuples, shorter than the run if it diverged."""

    train_loss: tuple[float | None, ...] = ()
    """Mean over the update's tokens, before the update; None where it was not finite."""
    gradient_norm: tuple[float | None, ...] = ()
    """Before clipping."""
    learning_rate: tuple[float, ...] = ()
    """Of the matrices, as used."""


class DocumentLoss(Record):
    """One held-out document's share of the final evaluation."""

    document: str
    loss: float
    num_tokens: int


Execution = Literal["eager", "graph", "compiled"]
"""How updates are carried out: operator by operator, replayed from a CUDA graph, or as fused kernels in one."""


class Provenance(Record):
    """What computed a result; None where nobody said. Results of different builds or devices are not compared without
    saying so."""

    code_digest: str | None = None
    """Digest of the trainer's own source."""
    torch: str | None = None
    device: str | None = None
    threads: int | None = None
    lanes: int | None = None
    """Runs trained side by side with this one, itself included."""
    precision: Literal["fp32", "bf16"] | None = None
    """Of products and activations; None where nobody said."""
    execution: Execution | None = None
    """How updates were carried out; it changes rounding alone. None where nobody said."""
    micro_batch_sequences: int | None = None
    """Sequences of a lane held in memory at once, in the end; None where nobody said."""
    data_digest: str | None = None
    evaluation_digest: str | None = None
    """Digest of the validation tokens the final loss was measured on."""


class RunResult(Record):
    """Everything known of one run after it ended."""

    fingerprint: str
    recipe: dict[str, Any]
    """The resolved recipe, flat: dotted setting to value."""
    status: Literal["completed", "diverged", "failed"]
    failure: Failure | None = None
    final: Metrics | None = None
    """Validation after the last update; None unless completed."""
    test: Metrics | None = None
    """The test set after the last update. Never selected on."""
    sets: dict[str, Metrics] = Field(default_factory=dict)
    """The named sets after the last update; empty unless completed."""
    evaluations: tuple[Evaluation, ...] = ()
    curve: Curve = Curve()
    rate_cuts: tuple[RateCut, ...] = ()
    """What an adaptive schedule decided, in order."""
    document_losses: tuple[DocumentLoss, ...] = ()
    num_updates: int | None = None
    """Updates done; None where nobody counted them."""
    num_tokens: int | None = None
    """Trained on; None where nobody counted."""
    num_flops: float | None = None
    """None where nobody counted."""
    train_seconds: float | None = None
    """Training time, data and optimizer included, evaluations excluded; a lane's share of its group. None where nobody
    measured it.

    As if the run had trained all of its updates itself: what it took over counts as it took whoever trained it.
    """
    shared_updates: int = 0
    """Of the updates, the first ones, taken over from another run that was the same until there."""
    shared_seconds: float = 0.0
    """Of the training time, that of the updates taken over."""
    provenance: Provenance | None = None
    extra: dict[str, float | None] = Field(default_factory=dict)
    """Further metrics of a trainer that is not ours."""

    def metric(self, name: str) -> float | None:
        """A metric by the name used in studies, lower or higher as the field has it; None if there is none.

        val_loss, val_bits_per_byte, val_accuracy, val_perplexity, the same with test_, train_loss (the last
        update's), train_seconds, sets.NAME.loss (or .bits_per_byte, .accuracy, .perplexity) of a named set, or a
        name in `extra`. What a program or a table gave under a name goes before what follows from another number.
        """
        if self.extra.get(name) is not None:
            return self.extra[name]
        if name.startswith("sets.") and name.count(".") == 2:
            _, which, what = name.split(".")
            measured = self.sets.get(which)
            return getattr(measured, what) if measured is not None and what in MEASURED else None
        if name == "train_loss" and self.curve.train_loss:
            return self.curve.train_loss[-1]
        if name == "train_seconds":
            return self.train_seconds
        which, _, what = name.partition("_")
        metrics = {"val": self.final, "test": self.test}.get(which)
        return getattr(metrics, what) if metrics is not None and what in MEASURED else None


Stage = Literal["search", "compare", "confirm"]
"""Which seeds a run is on: those that choose; those on which arms of [tune], each at its own best, are compared; fresh
ones that report."""


@dataclass(frozen=True, slots=True)
class StudyRun:
    """One run in its place in a study, whether Blueberry trained it or a table tells of it."""

    arm: str
    seed: int | None
    """The block that pairs it with other arms' runs; None where nobody said, so that nothing is paired."""
    stage: Stage
    result: RunResult
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Its arm's varied settings."""
    part: str = ""
    """Of a study made of parts: which one."""
    study: str | None = None
    """The study that asked for it; None where nobody said."""
    place: str = ""
    """Where it was read, e.g. "runs.csv line 4"; empty for a run of the store."""
    digits: Mapping[str, float] = field(default_factory=dict)
    """By metric, half a unit of the last digit it was printed with; a metric that was not rounded is not in it."""
    steps: tuple[tuple[float, float], ...] = ()
    """Of a table's run: (updates done, the metric that judges) wherever it was measured, ascending."""


def arm_name(point: dict[str, Any], among: Sequence[str] = ()) -> str:
    """The shortest readable name of a point on the axes, e.g. "learning_rate=0.0316,dropout=0.1".

    `among` are all settings that names must tell apart, where the point has not all of them.
    """
    among = list(among) or list(point)
    return ",".join(f"{_short(setting, among)}={value_name(value)}" for setting, value in point.items())


SIGNIFICANT_DIGITS = 4


def rounded(value: float) -> float:
    """To as many digits as a name can show."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def value_name(value: Any) -> str:
    """A setting's value as a person writes it in TOML, without quotes; what would act on a terminal is escaped."""
    if isinstance(value, bool):
        return str(value).lower()
    return printable(str(value).replace("\n", "\\n").replace("\t", "\\t"))


def _short(setting: str, among: Sequence[str]) -> str:
    """As few of the last parts of a dotted name as tell it from the others."""
    parts = setting.split(".")
    for start in range(len(parts) - 1, 0, -1):
        suffix = ".".join(parts[start:])
        if sum(f".{other}".endswith(f".{suffix}") for other in among) == 1:
            return suffix
    return setting


class Progress(Record):
    """Said by a trainer between results, so that others know it lives."""

    fingerprints: tuple[str, ...]
    update: int
    num_updates: int | None
    """Of the whole run; None where nobody knows."""
    train_losses: tuple[float | None, ...] = ()
    tokens_per_second: float | None = None
    note: str | None = None
    """One line that a person should read, said once."""
