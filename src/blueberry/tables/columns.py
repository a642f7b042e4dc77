"""The columns a table may have beside the varied settings, and the other names they go by.

To add a name: one entry in OTHER_NAMES, and one word in docs/tables.md.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from blueberry.errors import TableError, did_you_mean

MEANINGS = {
    "arm": "name of the arm",
    "seed": "whole number; one block of runs",
    "stage": "search (the run chose) or confirm (a fresh seed); compare, where search chose the settings of each arm",
    "val_loss": "validation loss at the end, nats per token",
    "val_bits_per_byte": "the same in bits per byte",
    "val_accuracy": "fraction of validation tokens",
    "val_perplexity": "exp(val_loss)",
    "train_loss": "training loss at the end, nats per token",
    "test_loss": "test loss at the end, nats per token",
    "test_bits_per_byte": "the same in bits per byte",
    "test_accuracy": "fraction of test tokens",
    "test_perplexity": "exp(test_loss)",
    "updates": "optimizer steps done",
    "tokens": "training tokens consumed",
    "flops": "arithmetic spent on training",
    "train_seconds": "training time",
    "status": "how the run ended",
    "vocabulary": "entries of the tokenizer",
    "study": "name of the study the run belongs to",
    "eval_hash": "names the tokens that the metric was measured on",
}
"""Columns with a meaning of their own. All are optional but the metric."""

OTHER_NAMES = {
    "arm": ("arm_name",),
    "seed": ("random_seed", "rng_seed", "run_seed", "training_seed"),
    "stage": (),
    "val_loss": (
        "final_loss", "final_val_loss", "final_validation_loss", "validation_loss", "valid_loss", "eval_loss",
        "final_eval_loss", "val_nll", "loss_val",
    ),
    "val_bits_per_byte": ("val_bpb", "bits_per_byte", "bpb", "final_bits_per_byte"),
    "val_accuracy": (
        "final_accuracy", "final_val_accuracy", "validation_accuracy", "eval_accuracy", "val_acc", "accuracy",
    ),
    "val_perplexity": (
        "final_perplexity", "final_val_perplexity", "validation_perplexity", "eval_perplexity", "val_ppl",
        "perplexity", "ppl",
    ),
    "train_loss": ("final_train_loss", "training_loss", "final_training_loss", "loss_train", "last_of_train_losses"),
    "test_loss": ("final_test_loss", "loss_test"),
    "test_bits_per_byte": ("test_bpb", "final_test_bits_per_byte"),
    "test_accuracy": ("test_acc", "final_test_accuracy"),
    "test_perplexity": ("test_ppl", "final_test_perplexity"),
    "updates": ("num_updates", "total_updates", "optimizer_steps", "optimizer_updates"),
    "tokens": ("num_tokens", "total_tokens", "train_tokens", "training_tokens", "tokens_seen"),
    "flops": ("num_flops", "total_flops", "train_flops", "training_flops"),
    "train_seconds": (
        "training_time", "train_time", "training_seconds", "training_time_seconds", "wall_seconds", "runtime",
        "duration_seconds", "training_time_minutes", "train_minutes", "training_minutes", "training_time_hours",
        "train_hours",
    ),
    "status": ("state", "success", "succeeded", "run_status", "outcome"),
    "vocabulary": ("vocab", "vocab_size", "vocabulary_size", "vocabulary_tokens", "vocabulary_entries"),
    "study": ("study_name",),
    "eval_hash": ("evaluation_hash", "eval_set_hash", "evaluation_digest", "eval_digest", "validation_hash"),
}  # fmt: skip

SAME_SETTING = (("learning_rate", "lr"), ("weight_decay", "wd"), ("batch_size", "bs"))
"""Names of one setting: --vary finds a column by any of them."""

WRAPPERS = frozenset(
    ("result", "results", "metrics", "final", "summary", "eval", "evaluation", "config", "configuration", "settings",
     "params", "parameters", "hparams", "hyperparameters", "args", "run", "stats", "schedule_config", "model_config")
)  # fmt: skip
"""Tables within a run's object that only group: `results.val_loss` is val_loss."""

_SPLITS = {"val": "val", "valid": "val", "validation": "val", "eval": "val", "evaluation": "val",
           "train": "train", "training": "train", "test": "test"}  # fmt: skip
_UNITS = {"minutes": 60.0, "hours": 3600.0, "min": 60.0, "mins": 60.0, "h": 3600.0, "hrs": 3600.0}

_KNOWN = {other: name for name, others in OTHER_NAMES.items() for other in (name, *others)}
_ROOT_OF = {other: names[0] for names in SAME_SETTING for other in names}


def folded(name: str) -> str:
    """A column's name as names are compared: "Val Loss (nats)" -> "val_loss"; dots stay."""
    name = re.sub(r"\([^)]*\)|\[[^]]*\]", " ", name.strip().strip("*`_ "))
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"[\s\-/]+", "_", name.strip()).strip("_").casefold()


def understood(columns: Iterable[str]) -> dict[str, str]:
    """Column -> the column of MEANINGS it is, for those that are one under another name.

    A column that has the name itself goes before others; among others the first in the table does, and the rest
    keep their names.
    """
    columns = list(dict.fromkeys(columns))
    taken = {name for name in columns if name in MEANINGS}
    renamed: dict[str, str] = {}
    for column in columns:
        meaning = None if column in MEANINGS else _meaning(column)
        if meaning is not None and meaning not in taken:
            taken.add(meaning)
            renamed[column] = meaning
    return renamed


def seconds_in(column: str) -> float:
    """What a column of training time counts in, by its name: 60 for minutes, 3600 for hours, else 1."""
    unit = re.search(r"[(\[]\s*(\w+)\s*[)\]]", column)
    last = unit.group(1).casefold() if unit else folded(column).rpartition("_")[2]
    return _UNITS.get(last, 1.0)


def find_column(name: str, columns: Iterable[str], place: str, renamed: Mapping[str, str] | None = None) -> str:
    """The column that a person means: by its name, the name the file has for it, another name of the same setting,
    or the last parts of a dotted one.

    Raises: TableError if there is none, or several that fit equally well.
    """
    columns = list(columns)
    wanted = folded(name)
    by_file = {given: meaning for given, meaning in (renamed or {}).items() if meaning in columns}
    for fits in (
        lambda column: column == name,
        lambda column: by_file.get(name) == column,
        lambda column: folded(column) == wanted,
        lambda column: any(folded(given) == wanted and by_file[given] == column for given in by_file),
        lambda column: _KNOWN.get(wanted) == column,
        lambda column: _root(column) == _root(name),
        lambda column: folded(column).endswith(f".{wanted}"),
        lambda column: wanted.endswith(f".{folded(column)}"),
        lambda column: _root(_last(column)) == _root(_last(name)),
    ):
        found = [column for column in columns if fits(column)]
        if len(found) > 1:
            raise TableError(f'{place} "{name}": {" and ".join(found[:3])}; one column must fit; give its whole name')
        if found:
            return found[0]
    raise TableError(f'{place} "{name}": no such column{did_you_mean(name, columns)}')


def _root(name: str) -> str:
    return _ROOT_OF.get(folded(name), folded(name))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _meaning(column: str) -> str | None:
    """val/loss, eval.loss, loss/val, results.val_loss, Val Loss, final_loss are all val_loss."""
    parts = [part for part in re.split(r"[./]", column) if part]
    plain = folded(column.replace(".", "_").replace("/", "_"))
    if plain in _KNOWN and len(parts) == 1:
        return _KNOWN[plain]
    if len(parts) == 2:
        for split, what in (parts, parts[::-1]):
            if folded(split) in _SPLITS and (found := _KNOWN.get(f"{_SPLITS[folded(split)]}_{folded(what)}")):
                return found
    while len(parts) > 1 and folded(parts[0]) in WRAPPERS:
        parts = parts[1:]
    return _KNOWN.get(folded(parts[0])) if len(parts) == 1 else None


def renamed_values(values: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """A row's values under the names that were understood; training time in seconds."""
    made: dict[str, Any] = {}
    for column, value in values.items():
        name = renamed.get(column, column)
        if name == "train_seconds" and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = value * seconds_in(column)
        made[name] = value
    return made
