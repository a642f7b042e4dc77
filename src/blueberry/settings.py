"""The sections of a recipe but for model and schedule: data, optimizer, train, evaluate; and how a setting is declared.

Each setting is declared once, with default, bounds, unit and meaning. Marks say how it may be used: `per_lane` (runs
that differ only in such settings can train side by side), `memory_only` (changes no number, so it is no part of a
run's identity), `local` (says where something lies: what lies there is part of the identity, through the data digest)
and `later` (recipes had it not always: where it is not given or false, runs keep the names they had without it).
"""

import re
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def setting(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    per_lane: bool = False,
    memory_only: bool = False,
    local: bool = False,
    later: bool = False,
    **bounds: Any,
) -> Any:
    """A field with its documentation beside it. `bounds` are pydantic's gt, ge, lt, le."""
    marks = {"unit": unit, "per_lane": per_lane, "memory_only": memory_only, "local": local, "later": later}
    return Field(default, description=doc, json_schema_extra={**marks}, **bounds)


class Section(BaseModel):
    """A table of a recipe: frozen, strictly typed, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)


def _several(given: Any) -> Any:
    """One text for a list of one; a list as TOML gives it for a tuple."""
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


class Files(Section):
    """Texts on this disk. Where they lie is no part of a run's identity: their content is."""

    paths: Annotated[tuple[str, ...], BeforeValidator(_several)] = setting(
        (),
        "files and globs (** for any depth), relative to the current folder; a glob's files in order of their names",
        local=True,
    )
    format: Literal["auto", "text", "jsonl", "parquet"] = setting(
        "auto", "auto: by the file's ending, .jsonl and .ndjson, .parquet, else text; text: a file is a document"
    )
    text_column: str = setting("text", "of JSON Lines and Parquet: the column that holds a document", min_length=1)
    delimiter: str | None = setting(
        None, "of text files: what stands between the documents of one file, e.g. a blank line", min_length=1
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.paths or not all(self.paths):
            raise ValueError(f"paths: {list(self.paths)}; a corpus of files needs their paths; give some")
        if self.format == "text" and self.text_column != "text":
            raise ValueError(
                f"text_column: {self.text_column!r}; text files have no columns; remove it or change format"
            )
        if self.format in ("jsonl", "parquet") and self.delimiter is not None:
            raise ValueError(
                f"delimiter: {self.delimiter!r}; a {self.format} file has a document a row; remove it or change format"
            )
        return self


class HuggingFace(Section):
    """A dataset of the hub, streamed once into the store. Needs the extra `hf`."""

    repository: str = setting("", "owner/name, as in HuggingFaceTB/smollm-corpus")
    configuration: str | None = setting(None, "of the dataset, where it has several, as in cosmopedia-v2")
    split: str = setting("train", "of the dataset; it is split anew into training, validation and test")
    text_column: str = setting("text", "the column that holds a document", min_length=1)
    revision: str = setting("", "the commit, 40 hexadecimal digits: a branch moves, a commit does not")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require_repository(self.repository, "repository", "datasets/")
        _require_commit(self.revision, "revision", f"datasets/{self.repository}")
        return self


class Source(Section):
    """One corpus: what it is, and how much of it is taken."""

    corpus: Literal["python-stdlib", "synthetic", "files", "hugging-face"] = setting(
        "python-stdlib",
        "python-stdlib: this interpreter's own library; synthetic: a language of known entropy; "
        "files: texts on this disk; hugging-face: a dataset of the hub",
    )
    files: Files | None = None
    hugging_face: HuggingFace | None = None
    max_documents: int | None = setting(None, "only the first ones of the corpus", unit="documents", ge=1)
    max_characters: int | None = setting(None, "only the beginning of each document", unit="characters", ge=1)
    max_tokens: int | None = setting(None, "only the first ones of the corpus, over all splits", unit="tokens", ge=1)

    @model_validator(mode="after")
    def _has_its_own_section(self) -> Self:
        """The section that its corpus reads, and none that it does not."""
        for name, owner in (("files", "files"), ("hugging_face", "hugging-face")):
            given = getattr(self, name) is not None
            if given and self.corpus != owner:
                raise ValueError(f'{name}: given; the corpus is {self.corpus!r}; set corpus = "{owner}" or remove it')
            if not given and self.corpus == owner:
                needs = "paths" if owner == "files" else "repository and revision"
                raise ValueError(
                    f'corpus: "{owner}"; it needs its section; set {name}.{needs.replace(" and ", f" and {name}.")}'
                )
        return self


class MixturePart(Source):
    """One corpus of a mixture, under a name of your choice. Its validation split is also measured on its own."""

    weight: float = setting(1.0, "of its windows in training and validation, over the sum of all weights", gt=0)


class NamedSet(Source):
    """A further corpus that every evaluation measures and training never sees, under a name of your choice."""

    documents: Literal["validation", "all"] = setting(
        "validation",
        "validation: those that fall to no other split, so no text of files or of the hub is trained on in any; "
        "all of them",
    )


class Data(Source):
    """Which text, cut how, in which tokens."""

    corpus: Literal["python-stdlib", "synthetic", "files", "hugging-face", "mixture"] = setting(  # pyright: ignore[reportIncompatibleVariableOverride]
        "python-stdlib",
        "python-stdlib: this interpreter's own library; synthetic: a language of known entropy; files: texts on this "
        "disk; hugging-face: a dataset of the hub; mixture: several of these, by weight",
    )
    mixture: dict[str, MixturePart] = setting({}, "the corpora of a mixture by name")
    sets: dict[str, NamedSet] = setting({}, "further corpora to measure by name")
    max_train_tokens: int | None = setting(
        None,
        "only the first ones of the training split: validation, test and tokenizer stay as they are",
        unit="tokens",
        later=True,
        ge=1,
    )
    tokenizer: Literal["bpe", "byte", "file", "hugging-face"] = setting(
        "bpe",
        "bpe: trained on the training documents; byte: 256 tokens; file: a tokenizer.json; hugging-face: the hub's",
    )
    tokenizer_path: str | None = setting(None, "of the tokenizer.json, for tokenizer = file", local=True)
    tokenizer_repository: str | None = setting(None, "owner/name on the hub, for tokenizer = hugging-face")
    tokenizer_revision: str | None = setting(
        None,
        "its commit, 40 hexadecimal digits; left out: the newest when a store first asks, the same from then on",
    )
    end_token: str | None = setting(
        None, "that ends a document, of a tokenizer not made here; left out: its own", min_length=1
    )
    mark_documents: bool = setting(True, "end each document with a token of its own; false joins them without a mark")
    vocabulary_tokens: int = setting(512, "entries of the tokenizer; 256 for byte", unit="tokens", ge=2, le=2**22)
    pad_vocabulary: bool = setting(
        False, "fill a bpe vocabulary with entries that stand for no text where the text gives too few", later=True
    )
    validation_fraction: float = setting(0.1, "of the documents, chosen by their hash, to select on", gt=0, lt=0.5)
    test_fraction: float = setting(0.05, "of the documents, chosen by their hash, never selected on", gt=0, lt=0.5)
    windows: Literal["disjoint", "overlapping"] = setting(
        "disjoint",
        "disjoint: documents are split, then cut into windows side by side; overlapping: windows that begin at every "
        "token are split at random, so nearly all validation text is trained on: only to repeat studies made that way",
    )

    @model_validator(mode="before")
    @classmethod
    def _byte_has_256(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("tokenizer") == "byte" and "vocabulary_tokens" not in given:
            return {**given, "vocabulary_tokens": 256}
        return given

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._require_mixture()
        self._require_tokenizer()
        for table in ("mixture", "sets"):
            for name in getattr(self, table):
                if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}", name):
                    raise ValueError(f"{table}: {name!r}; a name is letters, digits, - and _; rename it")
        if self.max_train_tokens is not None and (self.corpus == "mixture" or self.windows == "overlapping"):
            given = "a mixture" if self.corpus == "mixture" else "overlapping windows"
            raise ValueError(
                f"max_train_tokens: {self.max_train_tokens}; {given} has no stream of its own to cut; leave it out"
            )
        for name in self.mixture.keys() & self.sets.keys():
            raise ValueError(f"sets.{name}: is in data.mixture too; each is measured under its name; rename one")
        if self.windows == "overlapping" and (self.corpus == "mixture" or self.sets):
            given = "a mixture" if self.corpus == "mixture" else "data.sets"
            raise ValueError(
                f"windows: 'overlapping'; it cannot be combined with {given}; use one corpus, or \"disjoint\""
            )
        return self

    def _require_mixture(self) -> None:
        if self.corpus != "mixture":
            if self.mixture:
                raise ValueError(
                    f'mixture: given; the corpus is {self.corpus!r}; set data.corpus = "mixture" or remove it'
                )
            return
        if not self.mixture:
            raise ValueError('corpus: "mixture"; it needs corpora to mix; add [data.mixture.NAME] tables')
        for name in ("max_documents", "max_characters", "max_tokens"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name}: {getattr(self, name)}; a mixture is cut corpus by corpus; set data.mixture.NAME.{name}"
                )

    def _require_tokenizer(self) -> None:
        for name, owner in _TOKENIZER_SETTINGS.items():
            value = getattr(self, name)
            if value is None and self.tokenizer == owner and name != "tokenizer_revision":
                raise ValueError(f"{name}: left out; data.tokenizer = {owner!r} needs it; add it")
            if value is not None and self.tokenizer != owner:
                raise ValueError(
                    f"{name}: {value!r}; the tokenizer is {self.tokenizer!r}; "
                    f'remove it or set data.tokenizer = "{owner}"'
                )
        if self.tokenizer == "hugging-face":
            _require_repository(self.tokenizer_repository or "", "tokenizer_repository", "")
            if self.tokenizer_revision is not None:
                _require_commit(self.tokenizer_revision, "tokenizer_revision", self.tokenizer_repository or "")
        if self.end_token is not None and self.tokenizer in ("bpe", "byte"):
            raise ValueError(
                f"end_token: {self.end_token!r}; the {self.tokenizer} tokenizer has its own, the byte NUL; remove it"
            )
        if self.end_token is not None and not self.mark_documents:
            raise ValueError(f"end_token: {self.end_token!r}; mark_documents is false; remove one of them")
        if self.tokenizer == "byte" and self.vocabulary_tokens != 256:
            raise ValueError(
                f"vocabulary_tokens: {self.vocabulary_tokens}; the byte tokenizer has 256; leave it out or set 256"
            )
        if self.pad_vocabulary and self.tokenizer != "bpe":
            raise ValueError(
                f"pad_vocabulary: true; the tokenizer is {self.tokenizer!r}; only a bpe, which is trained here, can be "
                "filled; remove it"
            )
        if self.tokenizer == "bpe" and self.vocabulary_tokens < 256:
            raise ValueError(
                f"vocabulary_tokens: {self.vocabulary_tokens}; a bpe tokenizer begins with the 256 bytes; raise it"
            )


_TOKENIZER_SETTINGS = {
    "tokenizer_path": "file",
    "tokenizer_repository": "hugging-face",
    "tokenizer_revision": "hugging-face",
}


def _require_repository(given: str, name: str, kind: str) -> None:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", given):
        raise ValueError(
            f"{name}: {given!r}; must be owner/name as in https://huggingface.co/{kind}OWNER/NAME; mend it"
        )


def _require_commit(given: str, name: str, page: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{40}", given):
        raise ValueError(
            f"{name}: {given!r}; only a commit stays what it is; give its 40 hexadecimal digits, "
            f"from https://huggingface.co/{page}/commits/main"
        )


WeightGroup = Literal["matrices", "router", "embedding", "head", "norms"]
"""Weights that share a rate. `norms` holds every gain and bias; `head` exists where it is not tied."""

WEIGHT_GROUPS: tuple[WeightGroup, ...] = get_args(WeightGroup)
MUON_GROUPS: tuple[WeightGroup, ...] = ("matrices", "router")
"""What Muon trains in the hybrid; AdamW trains the rest."""

MAX_RATE = 1e6
"""Of a rate or of what multiplies it: so that their product is a number in fp32."""


class GroupRates(Section):
    """What each group's rate is multiplied with, beside its optimizer's own; 0 freezes the group."""

    matrices: float = setting(1.0, "of attention and feed-forward", per_lane=True, ge=0, le=MAX_RATE)
    router: float = setting(1.0, "of the routers to experts", per_lane=True, ge=0, le=MAX_RATE)
    embedding: float = setting(
        1.0, "of the embedding, and of the head where it is tied", per_lane=True, ge=0, le=MAX_RATE
    )
    head: float = setting(1.0, "of an untied head", per_lane=True, ge=0, le=MAX_RATE)
    norms: float = setting(1.0, "of gains and biases", per_lane=True, ge=0, le=MAX_RATE)


class Muon(Section):
    """Momentum, then the nearest semi-orthogonal matrix (Jordan et al. 2024). Trains every matrix but the embedding."""

    learning_rate: float = setting(0.06, "peak rate", per_lane=True, gt=0, le=MAX_RATE)
    momentum: float = setting(0.95, "of the moving average of gradients", per_lane=True, ge=0, lt=1)
    nesterov: bool = setting(True, "look one update ahead along the momentum")
    num_iterations: int = setting(5, "Newton-Schulz iterations", unit="iterations", ge=1, le=20)
    coefficients: Literal["quintic", "polar-express"] = setting(
        "quintic", "of the iterations: the same in each (Jordan et al. 2024), or the best for each (Amsel et al. 2025)"
    )
    update_scale: Literal["shape", "rms"] = setting(
        "shape",
        "of an orthogonal update: sqrt(max(1, rows / columns)), or 0.2 sqrt(max(rows, columns)), "
        "whose root mean square is AdamW's usual one (Liu et al. 2025)",
    )
    weight_decay: float = setting(0.0, "shrinkage per update in units of the rate", per_lane=True, ge=0)
    row_beta: float | None = setting(
        None,
        "decay of each row's mean squared update, by whose root the row is divided (NorMuon, Li et al. 2025); "
        "not given: rows are left as they are",
        ge=0,
        lt=1,
    )


_BETA1 = setting(0.9, "decay of the mean of gradients", per_lane=True, ge=0, lt=1)
_BETA2 = setting(0.95, "decay of the mean of squared gradients", per_lane=True, ge=0, lt=1)
_EPSILON = setting(1e-8, "added to the root of the second moment", gt=0)
_WEIGHT_DECAY = setting(0.1, "shrinkage per update in units of the rate", per_lane=True, ge=0)
_DECAY_NORMS = setting(
    False, "also of norm gains and biases, which decay only pulls away from where they belong", later=True
)


class FollowingAdamW(Section):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019) beside Muon: embedding, head, norms."""

    learning_rate_ratio: float = setting(0.1, "its peak rate over Muon's", per_lane=True, gt=0, le=MAX_RATE)
    beta1: float = _BETA1
    beta2: float = _BETA2
    epsilon: float = _EPSILON
    weight_decay: float = _WEIGHT_DECAY
    decay_norms: bool = _DECAY_NORMS


class LeadingAdamW(Section):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019) for every weight."""

    learning_rate: float = setting(0.003, "peak rate", per_lane=True, gt=0, le=MAX_RATE)
    beta1: float = _BETA1
    beta2: float = _BETA2
    epsilon: float = _EPSILON
    weight_decay: float = _WEIGHT_DECAY
    decay_norms: bool = _DECAY_NORMS


class MuonAdamWOptimizer(Section):
    """Muon for matrices and routers, AdamW for the rest."""

    kind: Literal["muon-adamw"] = "muon-adamw"
    muon: Muon = Muon()
    adamw: FollowingAdamW = FollowingAdamW()
    rates: GroupRates = GroupRates()


class AdamWOptimizer(Section):
    """AdamW for every weight."""

    kind: Literal["adamw"] = "adamw"
    adamw: LeadingAdamW = LeadingAdamW()
    rates: GroupRates = GroupRates()


Optimizer = Annotated[MuonAdamWOptimizer | AdamWOptimizer, Field(discriminator="kind")]


def peak_rates(optimizer: Optimizer) -> dict[WeightGroup, float]:
    """The rate of each group of weights where the schedule's multiplier is 1."""
    rates: dict[WeightGroup, float] = {}
    for group in WEIGHT_GROUPS:
        if isinstance(optimizer, AdamWOptimizer):
            rate = optimizer.adamw.learning_rate
        elif group in MUON_GROUPS:
            rate = optimizer.muon.learning_rate
        else:
            rate = optimizer.muon.learning_rate * optimizer.adamw.learning_rate_ratio
        rates[group] = rate * getattr(optimizer.rates, group)
    return rates


class Train(Section):
    """How long, and how much at once. An update is one optimizer step."""

    updates: int | None = setting(None, "optimizer steps; give this or tokens", unit="updates", ge=1, le=10**7)
    tokens: int | None = setting(None, "training tokens, rounded up to whole updates", unit="tokens", ge=1, le=10**13)
    batch_sequences: int = setting(16, "sequences in an update", unit="sequences", ge=1, le=10**6)
    micro_batch_sequences: int | None = setting(
        None, "sequences held in memory at once; changes no number", unit="sequences", memory_only=True, ge=1
    )
    clip_norm: float = setting(1.0, "gradients are scaled down to this norm; 0 does not clip", per_lane=True, ge=0)
    keep_weights: bool = setting(
        True, "save the final weights in the store, for sampling and export; changes no number", memory_only=True
    )
    precision: Literal["fp32", "bf16", "auto"] = setting(
        "fp32",
        "of products and activations, in training and evaluation; weights are kept and updated in fp32 always; "
        "auto: bf16 where the device multiplies it natively and, on a CPU, at width 192 or more; the result says which",
    )
    checkpoint_activations: bool = setting(
        False,
        "keep only what enters each layer and compute the layer again backward; changes no number (Chen et al. 2016)",
        memory_only=True,
    )

    DEFAULT_UPDATES: ClassVar[int] = 200

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("updates") is None and given.get("tokens") is None:
            return {**given, "updates": cls.DEFAULT_UPDATES}
        return given

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.updates is not None and self.tokens is not None:
            raise ValueError(f"tokens: {self.tokens}; updates = {self.updates} is given too; give one of them")
        micro = self.micro_batch_sequences
        if micro is not None and self.batch_sequences % micro:
            raise ValueError(
                f"micro_batch_sequences: {micro}; it must divide batch_sequences = {self.batch_sequences}; "
                f"try {nearest_divisor(self.batch_sequences, micro)}"
            )
        return self


class Evaluate(Section):
    """When to look at the validation set, and how much of it. The last update is always evaluated."""

    every_updates: int = setting(50, "updates between evaluations", unit="updates", ge=1)
    tokens: int = setting(8_192, "of each held-out set, in windows spread evenly over it", unit="tokens", ge=1)


def nearest_divisor(whole: int, near: int) -> int:
    """The divisor of `whole` to suggest to one who gave `near`."""
    return min((n for n in range(1, whole + 1) if whole % n == 0), key=lambda n: abs(n - near))
