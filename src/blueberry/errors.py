"""What can go wrong, as a person would sort it, and the line that says so: which setting was wrong, and which was meant
if it is misspelt.

BlueberryError            the user can mend it: one line, exit code 2, never a traceback
├── RecipeError           a recipe or a `key=value` override is wrong
├── LedgerError           a line of baselines has not what was asked of it
├── StudyError            a study file is wrong, or asks for what cannot be
├── DataError             a corpus or a tokenizer is missing, empty or unfit
├── StoreError            the store cannot be read or written
├── TrainerError          a trainer did not give one result for each recipe it was handed
├── TableError            a table of results has not what was asked of it
├── SinkError             a place to log to does not exist, or its library is not installed
└── ReportError           a report cannot be written where it was asked for

Every message reads `place: what was given; the rule it breaks; the remedy`. Our own bugs are
`assert` or whatever Python raises: they show a traceback because they should.
"""

import difflib
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError


class BlueberryError(Exception):
    """A mistake the user can mend. Its text is one line, whatever was given."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class RecipeError(BlueberryError):
    """A recipe, or an override of one, breaks a rule."""


class StudyError(BlueberryError):
    """A study file breaks a rule."""


class LedgerError(BlueberryError):
    """A line of baselines has not, or cannot do, what was asked of it."""


class DataError(BlueberryError):
    """A corpus, a tokenizer or a split is not fit to train on."""


class StoreError(BlueberryError):
    """The store is missing, unwritable, corrupt or of another version."""


class TrainerError(BlueberryError):
    """A trainer did not return what its contract promises."""


class TableError(BlueberryError):
    """A table of results lacks a column or holds what cannot be read."""


class SinkError(BlueberryError):
    """A place to log to does not exist, or its library is not installed."""


class ReportError(BlueberryError):
    """A report cannot be written where it was asked for."""


MOST_NAMES = 40
"""That one line lists."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for a dotted name that is not among the known ones.

    First what other programs call it, then the same word in another section, then a near spelling; where there is
    none of these, the known names, or if they are many those of its section.
    """
    known = sorted(known)
    parts = name.lower().replace("-", "_").split(".")
    if parts[-1] in EXPLAINED:
        return f"; {EXPLAINED[parts[-1]]}"
    same = _by_other_words(parts, (*SYNONYMS.get(parts[-1], ()), parts[-1]), known)
    section = name[: len(name) - len(parts[-1])]
    beside = [one for one in known if one.startswith(section)]
    ends = {one.removeprefix(section): one for one in beside}
    near = [ends[end] for end in difflib.get_close_matches(parts[-1], ends, n=1)]
    near = near or (difflib.get_close_matches(name, known, n=1) if not beside else [])
    misspelt = difflib.get_close_matches(parts[-1], SYNONYMS, n=1, cutoff=0.8)
    found = same or near or _by_other_words(parts, [ours for word in misspelt for ours in SYNONYMS[word]], known)
    if found:
        return f'; did you mean "{found[0]}"?'
    listed = sorted({section + end.partition(".")[0] for end in ends}) if section and beside else known
    if len(listed) > MOST_NAMES:
        listed = sorted({one.partition(".")[0] for one in listed})
    return f"; known: {', '.join(listed)}" if listed else ""


def _by_other_words(parts: Sequence[str], words: Iterable[str], known: Sequence[str]) -> list[str]:
    """The known name that ends in one of these words and shares the most sections, if there is one."""
    same = [one for word in words for one in known if f".{one}".endswith(f".{word}")]

    def shared(one: str) -> int:
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one.split("."), parts, strict=False)))

    return [max(same, key=shared)] if same else []


def one_line(error: "ValidationError", place: str, model: "type[BaseModel]") -> str:
    """The first of pydantic's complaints about a document that `model` describes, as `place "setting": ...`.

    A validator of ours says `setting: what was given; the rule; the remedy`, the setting relative to its section.
    """
    first = error.errors()[0]
    context = first.get("ctx", {})
    parts, siblings = _locate(first["loc"], model)
    name = ".".join(parts)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    match first["type"]:
        case "extra_forbidden":
            return f'{place} "{name}": no such setting{did_you_mean(name, siblings)}{more}'
        case "value_error":
            inner, _, said = str(context["error"]).partition(": ")
            return f'{place} "{".".join([*parts, inner])}": {said}{more}'
        case "union_tag_invalid":
            tag, known = context["tag"], context["expected_tags"].replace("'", "").split(", ")
            chosen = f"{name}.{context['discriminator'].strip(chr(39))}"
            return f'{place} "{chosen}": {tag!r}; no such kind{did_you_mean(str(tag), known)}{more}'
        case "model_type" | "dict_type" | "model_attributes_type":
            given = _shortly(first["input"])
            return f'{place} "{name}": {given}; {name} is a section; give its settings, each by its name{more}'
        case "missing":
            return f'{place} "{name}": left out; it has no default; add it{more}'
        case _:
            rule = first["msg"][0].lower() + first["msg"][1:]
            return f'{place} "{name}": {_shortly(first["input"])}; {rule}; change the value{more}'


def _shortly(given: Any) -> str:
    try:
        text = repr(given)
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


def sections_in(annotation: Any) -> list[Any]:
    """The sections a field can hold: several where it is a union over kinds."""
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        return [annotation]
    return [kind for part in getattr(annotation, "__args__", ()) for kind in sections_in(part)]


def is_table(annotation: Any) -> bool:
    """Whether a field holds something under names that the user chooses."""
    return get_origin(annotation) is dict


def _locate(loc: tuple[int | str, ...], model: "type[BaseModel]") -> tuple[list[str], list[str]]:
    """The dotted parts of a setting that pydantic points at, and the settings it stands among.

    Pydantic puts the kind that a union chose into the location; it is no part of the setting's name.
    """
    parts: list[str] = []
    candidates = [model]
    names_follow = False
    for part in map(str, loc):
        if names_follow:
            parts.append(part)
            names_follow = False
            continue
        chosen = [section for section in candidates if part in (section.__name__, *_tags(section))]
        if len(candidates) > 1 and chosen:
            candidates = chosen
            continue
        parts.append(part)
        fields = [section.model_fields[part] for section in candidates if part in section.model_fields]
        inside = [section for field in fields for section in sections_in(field.annotation)]
        if not inside:
            break
        names_follow = any(is_table(field.annotation) for field in fields)
        candidates = inside
    prefix = "".join(f"{part}." for part in parts[:-1])
    return parts, [f"{prefix}{name}" for section in candidates for name in section.model_fields]


def _tags(section: "type[BaseModel]") -> list[str]:
    """By which a union knows this section from its others."""
    fields = section.model_fields.values()
    return [get_args(one.annotation)[0] for one in fields if len(get_args(one.annotation)) == 1 and one.default]


_BATCH = (
    "train.batch_sequences is what an update trains on, however it is cut; train.micro_batch_sequences is how much "
    "of that is in memory at once, and changes no number"
)
_LENGTH = "a run is as long as train.updates or train.tokens says"
EXPLAINED = {
    **dict.fromkeys(("gradient_accumulation_steps", "gradient_accumulation", "grad_accum", "grad_accum_steps"), _BATCH),
    **dict.fromkeys(("accumulate_grad_batches", "accumulation_steps", "accum_steps"), _BATCH),
    **dict.fromkeys(("epoch", "epochs", "num_epochs", "num_train_epochs", "max_epochs", "n_epochs"), _LENGTH),
}
"""What is said another way here, and how."""

_OTHER_WORDS = {
    "muon.learning_rate": "lr base_lr max_lr peak_lr",
    "learning_rate": "lr base_lr max_lr peak_lr muon_lr matrix_lr learningrate",
    "learning_rate_ratio": "adam_lr adamw_lr embed_lr embedding_lr lr_ratio",
    "weight_decay": "wd decay l2 weightdecay",
    "train.batch_sequences": "bs batch batch_size batchsize global_batch_size train_batch_size",
    "train.micro_batch_sequences": "mbs micro_batch micro_batch_size microbatch device_batch_size "
    "per_device_train_batch_size",
    "train.updates": "steps step max_steps num_steps train_steps total_steps iters max_iters iterations num_updates",
    "train.tokens": "max_tokens num_tokens train_tokens total_tokens",
    "train.clip_norm": "clip grad_clip gradient_clip max_grad_norm clip_grad_norm gradient_clip_val",
    "train.precision": "dtype amp mixed_precision bf16 fp16",
    "train.checkpoint_activations": "gradient_checkpointing activation_checkpointing grad_checkpointing",
    "model.width": "dim d_model dmodel hidden_size n_embd embed_dim embedding_dim model_dim n_embed",
    "model.num_layers": "layers n_layer n_layers num_hidden_layers depth nlayers",
    "model.num_heads": "heads n_head n_heads num_attention_heads nheads",
    "num_kv_heads": "kv_heads n_kv_head n_kv_heads num_key_value_heads",
    "model.context_tokens": "ctx context block_size seq_len seq_length sequence_length sequence_len max_seq_len "
    "context_length context_size ctx_len n_ctx max_length max_position_embeddings",
    "model.dropout": "drop dropout_rate dropout_prob p_drop hidden_dropout resid_pdrop attention_dropout",
    "model.tied_head": "tie tied tie_embeddings tie_word_embeddings weight_tying tied_embeddings",
    "model.initial_sd": "init_std initializer_range init_sd",
    "model.initialization": "init",
    "query_key_norm": "qk_norm qknorm",
    "rotary_base": "rope_theta rope_base theta",
    "model.feed_forward.hidden": "ffn ffn_dim d_ff ff_dim intermediate_size mlp_dim hidden_dim ffn_hidden_size",
    "model.feed_forward.activation": "act activation_function hidden_act",
    "num_experts": "experts n_expert n_experts num_local_experts",
    "num_shared_experts": "shared_experts n_shared_experts",
    "top_k": "topk k experts_per_token num_experts_per_tok active_experts",
    "balance_weight": "aux_loss aux_loss_coef aux_loss_weight router_aux_loss_coef load_balance load_balancing",
    "schedule.kind": "scheduler lr_scheduler lr_scheduler_type schedule_type lr_schedule",
    "schedule.warmup_fraction": "warmup warmup_ratio warmup_pct warmup_frac",
    "schedule.warmup_updates": "warmup_steps warmup_iters num_warmup_steps",
    "schedule.floor_fraction": "min_lr min_lr_ratio final_lr lr_min eta_min min_ratio",
    "schedule.decay_fraction": "cooldown cooldown_fraction decay_ratio",
    "optimizer.kind": "optim optimizer_type optimizer_name",
    "beta1": "b1 adam_beta1",
    "beta2": "b2 adam_beta2",
    "epsilon": "eps adam_epsilon adam_eps",
    "momentum": "mu beta",
    "num_iterations": "ns_steps newton_schulz_steps",
    "data.vocabulary_tokens": "vocab vocab_size n_vocab vocabulary vocabulary_size",
    "data.corpus": "dataset dataset_name corpus_name text",
    "data.files.paths": "data_path data_dir train_file path",
    "data.tokenizer": "tok tokenizer_name",
    "evaluate.every_updates": "eval_interval eval_every eval_steps val_every val_interval every_steps every",
    "evaluate.tokens": "eval_tokens eval_iters val_tokens eval_batches",
    "seed": "random_seed rng_seed seeds manual_seed",
}
SYNONYMS = {
    word: tuple(ours for ours, words in _OTHER_WORDS.items() if word in words.split())
    for words in _OTHER_WORDS.values()
    for word in words.split()
}
"""What other programs call a setting, and how the names end that it can have here; the likeliest first."""
