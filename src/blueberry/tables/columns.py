"""The columns a table may have, their other names, the units in these, and what kind of thing a column is.

To add a name of a column with a meaning: one word in _COLUMNS, and one in docs/tables.md. To teach a word of
a column without one: one word in SETTING, LENGTH, RESULT, LABEL or META.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal

from blueberry.errors import TableError, did_you_mean


def word_set(text: str) -> frozenset[str]:
    """Of a list of words with blanks between."""
    return frozenset(text.split())


Kind = Literal["setting", "length", "result", "label", "seed", "meta"]
"""What a column is: what a run was given; how long it was; what came out of it; what it is called; its seed; when,
where and how it was run."""

_COLUMNS = {
    "arm": ("name of the arm", "arm_name"),
    "seed": ("whole number; one block of runs",
             "random_seed rng_seed run_seed training_seed global_seed torch_seed"),
    "stage": ("search (the run chose) or confirm (a fresh seed); compare, where search chose the settings of each arm",
              ""),
    "val_loss": ("validation loss at the end, nats per token",
                 "final_loss final_val_loss final_validation_loss validation_loss valid_loss eval_loss final_eval_loss "
                 "val_nll loss_val"),
    "val_bits_per_byte": ("the same in bits per byte", "val_bpb bits_per_byte bpb final_bits_per_byte"),
    "val_accuracy": ("fraction of validation tokens",
                     "final_accuracy final_val_accuracy validation_accuracy eval_accuracy val_acc accuracy"),
    "val_perplexity": ("exp(val_loss)",
                       "final_perplexity final_val_perplexity validation_perplexity eval_perplexity val_ppl "
                       "perplexity ppl"),
    "train_loss": ("training loss at the end, nats per token",
                   "final_train_loss training_loss final_training_loss loss_train last_of_train_losses"),
    "test_loss": ("test loss at the end, nats per token", "final_test_loss loss_test"),
    "test_bits_per_byte": ("the same in bits per byte", "test_bpb final_test_bits_per_byte"),
    "test_accuracy": ("fraction of test tokens", "test_acc final_test_accuracy"),
    "test_perplexity": ("exp(test_loss)", "test_ppl final_test_perplexity"),
    "updates": ("optimizer steps done", "num_updates total_updates optimizer_steps optimizer_updates"),
    "tokens": ("training tokens consumed", "num_tokens total_tokens train_tokens training_tokens tokens_seen"),
    "flops": ("arithmetic spent on training", "num_flops total_flops train_flops training_flops"),
    "train_seconds": ("training time",
                      "training_time train_time training_seconds training_time_seconds wall_seconds runtime "
                      "duration_seconds training_time_minutes train_minutes training_minutes training_time_hours "
                      "train_hours"),
    "status": ("how the run ended", "state success succeeded run_status outcome"),
    "vocabulary": ("entries of the tokenizer",
                   "vocab vocab_size vocabulary_size vocabulary_tokens vocabulary_entries"),
    "study": ("name of the study the run belongs to", "study_name"),
    "eval_hash": ("names the tokens that the metric was measured on",
                  "evaluation_hash eval_set_hash evaluation_digest eval_digest validation_hash"),
}  # fmt: skip
"""Columns with a meaning of their own, and their other names. All are optional but the metric."""
MEANINGS = {name: meaning for name, (meaning, _) in _COLUMNS.items()}
OTHER_NAMES = {name: tuple(others.split()) for name, (_, others) in _COLUMNS.items()}

SAME_SETTING = (("learning_rate", "lr"), ("weight_decay", "wd"), ("batch_size", "bs"))
"""Names of one setting: --vary finds a column by any of them."""

SETTING = word_set(
    """
    lr rate wd decay batch bs dropout beta beta1 beta2 betas momentum nesterov warmup cooldown layers layer heads
    head width hidden dim dims depth embd ff ffn mlp optimizer optim schedule scheduler activation act norm clip
    eps epsilon temperature context ctx seq block vocabulary vocab tokenizer dataset data corpus precision dtype
    init accumulation accum alpha gamma lambda topk k experts smoothing scale size coef weight factor ratio
    fraction patience every interval frequency kind type budget attention rope theta model d bias tied multiplier
    floor capacity lora adapter
    """
)
"""Words of what a run is given. One of them in a name makes it a setting, unless its last word is a result's."""
NO_LENGTH = word_set(
    """
    warmup warm warmdown rampup rampdown ramp decay anneal annealing cooldown stable hold plateau restart cycle period
    every interval frequency accumulation accum eval evaluate evaluation val valid validation test inference generation
    save saving logging log print report checkpointing patience context vocabulary vocab sequence seq window batch bs
    bsz batchsize minibatch microbatch per data corpus horizon inner local diffusion newton ns unroll truncation freeze
    ema swa
    """
)
"""Words that make a number of steps or tokens a setting: warmup_steps, eval_steps, context_tokens, bsz_tokens."""
_EVALUATED = word_set("val valid validation eval evaluation test")
_EVALUATED_ON = word_set("tokens batches iters examples samples sequences documents docs windows")
LENGTH = word_set(
    """
    it steps step nsteps nstep updates update iters iter niters niter iterations iteration epochs epoch nepochs tokens
    flops flos batches seen checkpoint ckpt
    """
)
"""Last words of how long a run was."""
AFTER_LENGTH = word_set(
    "done completed processed consumed trained count total so far budget b m k bn million millions billion"
)
"""Words after those, which say no more: steps_done, tokens_b."""
COUNTED = word_set("samples examples sequences documents images")
"""What a run was as long as, if the name also says that it went through them."""
GONE_THROUGH = word_set("seen processed consumed trained total")
RESULT = word_set(
    """
    loss losses nll ce entropy ppl perplexity bpb bpc bits byte accuracy second hour acc error err errors f1 bleu
    rouge auc reward return score scores recall r2 mfu throughput exact match likelihood seconds secs sec time
    runtime duration elapsed latency minutes hours ms s memory mem vram gb mb gib bytes params param parameters gap diff
    difference delta improvement speedup std sd stderr sem wer cer tps utilization watts energy cost
    rank_correlation margin artifact artifacts confidence similarity coherence diversity agreement spikes
    """
)
"""Last words of what came out of a run, its size included."""
_COMES_OUT = word_set("best vs dead artifact \u03b4 \u2206")
"""Words of what came out of a run, wherever they stand."""
_OUTCOMES = word_set(
    "win success pass fail failure completion repetition hit acceptance refusal solve detection hallucination"
)
"""What a rate is of that came out of a run."""
SIZES_OF_ALL = word_set("params param parameters parameter")
"""Of RESULT, the words of a model's size: tokens per parameter are chosen."""
MODIFIERS = word_set("m k b percent pct count avg mean min max ema")
"""Words after what a column is: num_params_M, val_loss_min."""
LOSSES = word_set("loss nll bpb bpc ppl perplexity byte ce")
"""Last words of what training makes small."""
_LOGGED = LOSSES | word_set("acc accuracy error f1 auc score")
"""What Lightning logs by step and by epoch, as train_loss_step and train_loss_epoch."""
_WHICH = word_set("best final last end least lowest")
"""Words after a metric: which of a run's it is."""
_DIFFERENCE = word_set("delta \u03b4 \u2206 diff difference gap gain improvement vs")
_AFTER_METRIC = word_set("at @ after on")
"""What begins where or when it was measured: "val loss at 3275"."""
LABEL = word_set(
    """
    name arm run runs trial id index idx experiment exp label group tag tags note notes description desc comment
    comments commit sha hash revision url link path file folder dir number no nr variant setting condition method
    version job attempt replica repeat row title color config study sweep case candidate sample fold setup combo
    combination preset option choice treatment cell instance slot log logfile
    """
)
"""Last words of what a run or its arm is called. Numbers in such a column name things: they are no axis."""
META = word_set(
    """
    timestamp date created started finished ended host hostname node device gpu gpus user machine platform cuda
    torch python branch state status stage summary author worker workers rank logdir pid ip uri
    """
)
"""Last words of when, where and by whom a run was made."""
_DEVICES = word_set("gpu gpus device devices accelerator hardware")
_BUILDS = word_set(
    "code source sources git commit repo trainer software torch pytorch jax cuda cudnn driver python library framework"
)
"""What has a version, or a hash, that says which build made a run."""
CODES = word_set("model optimizer optim scheduler schedule activation act dataset corpus tokenizer kind type dtype")
"""Last words of what is one of several: whole numbers there name things too."""
TEXT = word_set("commit sha hash revision fingerprint digest uuid")
"""Last words of columns whose cells are names even where they look like numbers: a commit may be 5e82390."""
_BRACKETS = re.compile(r"[(\[]\s*(\w+)\s*[)\]]")
_TIMES = word_set("ms sec secs seconds time s")
WRAPPERS = frozenset(
    ("result", "results", "metrics", "final", "summary", "eval", "evaluation", "config", "configuration", "settings",
     "params", "parameters", "hparams", "hyperparameters", "args", "run", "stats", "schedule_config", "model_config")
)  # fmt: skip
"""Tables within a run's object that only group: `results.val_loss` is val_loss."""
_GROUPS_OF_RESULTS = frozenset(("summary", "metrics", "results", "result", "stats", "final", "eval", "evaluation"))
_OF_A_RUN = frozenset(("experiment", "trial"))
"""Words beside those in what a group is called: `final_metrics`, `experiment_config`."""

LONGEST_NAME = 1_000
"""Characters of a column's name; what is longer is refused."""
_SPLITS = {"val": "val", "valid": "val", "validation": "val", "eval": "val", "evaluation": "val",
           "train": "train", "training": "train", "test": "test"}  # fmt: skip
_HELD_OUT = frozenset(split for split, meaning in _SPLITS.items() if meaning == "val")

_UNIT = re.compile(r"[(\[]\s*([^()\[\]]+?)\s*[)\]]")
_TIME_UNITS = {
    1e-6: "us \u03bcs microsecond microseconds", 1e-3: "ms msec msecs millisecond milliseconds",
    1.0: "s sec secs second seconds", 60.0: "m min mins minute minutes", 3600.0: "h hr hrs hour hours",
    86_400.0: "d day days",
}  # fmt: skip
SECONDS_IN = {unit: seconds for seconds, units in _TIME_UNITS.items() for unit in units.split()}
_COUNTS = ("updates", "tokens", "flops", "vocabulary")
_MULTIPLES = {
    3: word_set("k thousand thousands"), 6: word_set("m mn mio mega million millions"),
    9: word_set("b bn g giga billion billions"), 12: word_set("t tn tera trillion trillions"),
    15: word_set("p peta"), 18: word_set("e exa"), 21: word_set("z zetta"),
}  # fmt: skip
"""Powers of ten, and what they are called in a unit."""
_POWER_OF_TEN = re.compile(r"(?:[x\u00d7*] ?)?(?:1e|10\^|10\*\*)\+?(\d{1,2})")
_OF_WHAT = re.compile(r" ?(?:tok(?:en)?s?|updates?|steps?|f(?:lops?)?)$")
_PER_SECOND_FOR_DAYS = re.compile(r"(?:/s)?[- ]days?$")
"""A petaflop/s-day is 8.64e19 operations."""
_KIND_OF: dict[str, Kind] = {
    "arm": "label", "seed": "seed", "stage": "meta", "status": "meta", "study": "label", "eval_hash": "meta",
    "vocabulary": "setting", "updates": "length", "tokens": "length", "flops": "length",
}  # fmt: skip
_KNOWN = {other: name for name, others in OTHER_NAMES.items() for other in (name, *others)}
_ROOT_OF = {other: names[0] for names in SAME_SETTING for other in names}


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """A column's name as names are compared: "Val Loss (nats)" -> "val_loss"; dots stay."""
    name = re.sub(r"\([^)]*\)|\[[^]]*\]", " ", name[:LONGEST_NAME].strip().strip("*`_ "))
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"[\s\-/]+", "_", name.strip()).strip("_").casefold()


def words_in(name: str) -> list[str]:
    """Of a column's name, as they are compared."""
    return [word for word in re.split(r"[._]+", folded(name)) if word]


@lru_cache(maxsize=4096)
def kind_by_name(column: str) -> Kind | None:
    """What a column is, so far as its name says."""
    meaning = column if column in MEANINGS else _meaning(column)
    if meaning is not None:
        return _KIND_OF.get(meaning, "result")
    words = words_in(column)
    if not words:
        return None
    among = set(words)
    while words[-1] in MODIFIERS and len(words) > 1 and words[-2] not in MODIFIERS | {"top"}:
        words = words[:-1]
    first, before, last = words[0], words[-2] if len(words) > 1 else "", words[-1]
    if last in ("seed", "seeds"):
        return "seed"
    if build_of(column) is not None and not is_name(column):
        return "meta"
    if (
        among & _COMES_OUT
        or first in ("delta", "gain")
        or (last in ("step", "epoch") and before in _LOGGED)
        or (last == "rate" and before in _OUTCOMES)
        or (first in _TIMES and ("per" in among or "/" in column))
        or (among & {"grad", "gradient"} and "norm" in among and not among & {"clip", "max"})
    ):
        return "result"
    if last in ("std", "sd") and among & {"init", "initializer", "noise", "weight"}:
        return "setting"
    if last in SIZES_OF_ALL and "per" in among:
        return "setting"
    if is_loss(column) or last in RESULT or (before and first in _SPLITS and "/" in column and "." not in column):
        return "result"
    if folded(column) == "global_batch" or is_tokens(column):
        return "length"
    core = words  # "tokens_b" and "steps_done" are tokens and steps
    while len(core) > 1 and core[-1] in AFTER_LENGTH and set(core[:-1]) & LENGTH:
        core = core[:-1]
    if core[-1] in LENGTH and not set(core[:-1]) & NO_LENGTH:
        return "length"
    if among & COUNTED and among & GONE_THROUGH and not among & NO_LENGTH:
        return "length"
    if any(_GROUPS_OF_RESULTS & set(words_in(group)[-1:]) for group in column.split(".")[:-1]):
        return "result"
    if among & SETTING or last in LENGTH:
        return "setting"
    if last in LABEL:
        return "label"
    return "meta" if last in META else None


def understood(columns: Iterable[str]) -> dict[str, str]:
    """Column -> the column of MEANINGS it is, for those that are one under another name.

    A column that has the name itself goes before others; among others the first in the table does, and the rest
    keep their names.
    """
    columns = list(dict.fromkeys(columns))
    taken = {name for name in columns if name in MEANINGS}
    renamed: dict[str, str] = {}
    held_out = any(_HELD_OUT & set(words_in(column)) and is_loss(column) for column in columns)
    for column in columns:
        meaning = None if column in MEANINGS else _meaning(column)
        if meaning == "val_loss" and held_out and not _HELD_OUT & set(words_in(column)):
            continue  # final_loss beside val_bpb is that of training
        if meaning is not None and meaning not in taken:
            taken.add(meaning)
            renamed[column] = meaning
    return renamed


def unit_in(column: str) -> str:
    """What stands in the brackets of a column's name: "m" of "tokens (M)"; empty where it has none."""
    found = _UNIT.search(column)
    return found[1].casefold().removeprefix("in ") if found else ""


@lru_cache(maxsize=4096)
def scale_of(column: str, meaning: str) -> float:
    """What a column with this meaning counts in, by its name: 60 for "training time (min)", 10**6 for "tokens (M)"."""
    unit = unit_in(column)
    if meaning == "train_seconds":
        return SECONDS_IN.get(unit) or SECONDS_IN.get(folded(column).rpartition("_")[2], 1.0)
    if meaning not in _COUNTS:
        return 1
    unit, days = (_PER_SECOND_FOR_DAYS.sub("", unit), 86_400) if _PER_SECOND_FOR_DAYS.search(unit) else (unit, 1)
    unit = _OF_WHAT.sub("", unit)
    if (power := _POWER_OF_TEN.fullmatch(unit)) is not None:
        return days * 10 ** int(power[1])
    return days * next((10**power for power, names in _MULTIPLES.items() if unit in names), 1)


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
        lambda column: root_of(column) == root_of(name),
        lambda column: folded(column).endswith(f".{wanted}"),
        lambda column: wanted.endswith(f".{folded(column)}"),
        lambda column: root_of(_last(column)) == root_of(_last(name)),
        lambda column: root_of(column.rpartition("/")[2]) == root_of(name),
    ):
        found = [column for column in columns if fits(column)]
        if len(found) > 1:
            raise TableError(f'{place} "{name}": {" and ".join(found[:3])}; one column must fit; give its whole name')
        if found:
            return found[0]
    raise TableError(f'{place} "{name}": no such column{did_you_mean(name, columns)}')


def refuse_twice(names: Sequence[str], place: str) -> None:
    """Raises: TableError if two columns have one name; several may have none."""
    twice = next((name for number, name in enumerate(names) if name and name in names[:number]), None)
    if twice is not None:
        raise TableError(f'{place} "{twice}": names two columns; each column has its own name; rename one')


def is_loss(metric: str) -> bool:
    """Whether a metric is a loss, by its name: no model of text has one of 0 or below."""
    words = words_in(metric)
    where = next((place for place, word in enumerate(words) if word in _AFTER_METRIC and place), len(words))
    words = words[:where]
    while len(words) > 1 and words[-1] in MODIFIERS | _WHICH:
        words = words[:-1]
    unit = _BRACKETS.search(metric)
    return (
        bool(words)
        and not _DIFFERENCE & set(words)
        and (words[-1] in LOSSES or (unit is not None and unit[1].casefold() in LOSSES))
    )


_NOT_OF_TEXT = word_set("rmse mse mae mape smape psnr ssim fid iou dice")


def measures_no_text(column: str) -> bool:
    """Whether it is an error of numbers or pictures, by its name."""
    return not _NOT_OF_TEXT.isdisjoint(words_in(column))


def means_the_same(column: str, meaning: str) -> bool:
    """Whether it is understood as a column of MEANINGS is, if that one were not there."""
    return column != meaning and _meaning(column) == meaning


def is_bracketed(column: str) -> bool:
    """Whether brackets say which it is, e.g. "val_bpb (sliding)"."""
    return _BRACKETS.search(column) is not None


def is_tokens(column: str) -> bool:
    """Whether it counts what was trained on, whoever multiplied it out."""
    return folded(column) in ("tokens", "sequences")


def is_evaluated_on(column: str) -> bool:
    """Whether it says how much the metric was measured on: val_tokens, eval_iters; not eval_batch_size."""
    among = set(words_in(column))
    return bool(among & _EVALUATED and among & _EVALUATED_ON) and not among & {"per", "every", "interval", "batch"}


def build_of(column: str) -> Literal["devices", "builds"] | None:
    """Whether a column says on which device, or by which build, a run was made: gpu_type, code_version, commit."""
    words = words_in(_last(column))
    if len(words) > 1 and words[-1] in ("type", "name", "kind", "model"):
        words = words[:-1]
    if not words or set(words) & {"num", "n", "count", "per", "hours", "memory", "mem", "time"}:
        return None
    if words[-1] in _DEVICES:
        return "devices"
    of_code = words[-1] in TEXT | {"version"} and len(words) > 1 and set(words[:-1]) <= _BUILDS
    return "builds" if of_code or words[-1] == "commit" else None


def is_name(column: str) -> bool:
    """Whether what stands in it are names, which are never read as numbers."""
    words = words_in(column)
    return bool(words) and words[-1] in TEXT


def same_name(name: str) -> str:
    """A name with one form of what has several: optimizer.learning_rate is optimizer.lr."""
    for name_, *others in SAME_SETTING:
        for other in others:
            name = re.sub(rf"(?<![a-z]){name_}(?![a-z])", other, folded(name))
    return name


def root_of(name: str) -> str:
    """A name as settings are compared: learning_rate is lr."""
    return _ROOT_OF.get(folded(name), folded(name))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _meaning(column: str) -> str | None:
    """val/loss, eval.loss, loss/val, results.val_loss, Val Loss, final_loss are all val_loss."""
    parts = [part for part in re.split(r"[./]", _UNIT.sub(" ", column)) if part.strip()]
    plain = folded(column.replace(".", "_").replace("/", "_"))
    if plain in _KNOWN and len(parts) == 1:
        return _KNOWN[plain]
    while len(parts) > 1:
        for split, what in (parts, parts[::-1]) if len(parts) == 2 else ():
            if folded(split) in _SPLITS and (found := _KNOWN.get(f"{_SPLITS[folded(split)]}_{folded(what)}")):
                return found
        if not all(word in WRAPPERS | _OF_A_RUN for word in folded(parts[0]).split("_")):
            break
        parts = parts[1:]
    return _KNOWN.get(folded(parts[0])) if len(parts) == 1 else None
