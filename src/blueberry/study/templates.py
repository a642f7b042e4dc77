"""The commented study files that `blueberry new` writes."""

import os
from pathlib import Path

from blueberry.errors import StudyError, did_you_mean
from blueberry.files import toml_value
from blueberry.recipe import Recipe

_HEAD = """\
question   = {question}
base       = {base}  # a recipe, relative to this file
metric     = "val_loss"       # lower is better: val_loss, val_bits_per_byte, val_perplexity, train_loss
min_effect = 0.01             # the smallest difference that matters, in units of the metric (nats per token)
alpha      = 0.05             # how often a claim may be wrong
"""

_SET = """
[set]                         # applied to every arm
"train.updates" = 200
"""

_SEEDS = """
[seeds]                       # a seed fixes initial weights, data order and random draws; arms are compared within
search  = {search}                   # on which every arm is trained
confirm = 5                   # fresh ones for the best arm alone, whose number is reported; 0 for none
max     = 16                  # the search may grow to so many; the confirming seeds begin after them
"""

_TUNED_SEEDS = """
[seeds]                       # a seed fixes initial weights, data order and random draws
search  = 3                   # on which every rate of every arm is trained, to find each arm's best
confirm = 5                   # fresh ones, to compare the arms at their best; as many again confirm the winner
max     = 16                  # the search may grow to so many; the fresh seeds begin after them
"""

_SWEEP = (
    _SET
    + """
[vary]                        # one axis, or several for a grid; a list, { log = .. } or { linear = .. }
# Best at most a factor of 1.4 apart near the optimum, and wide enough that it is not at an end.
"optimizer.muon.learning_rate" = { log = [0.004, 0.25], points = 13 }
# A second axis makes a grid; with a condition it is there only where that is met:
# "model.feed_forward.kind" = ["mlp", "moe"]
# "model.feed_forward.top_k" = { values = [1, 2], when = { "model.feed_forward.kind" = "moe" } }

[strategy]
method = "grid"               # or "race": further seeds, up to max, go to the arms that are still open;
                              # or "optuna": 40 proposals between the ends (leave out points; needs the extra optuna)
"""
    + _SEEDS.format(search=3)
)

_COMPARE = (
    _SET
    + """
# The recipe as it is, with [set], is the arm "baseline". Each table below is one arm beside it: what it changes.
[arms.less_warmup]
"schedule.warmup_fraction" = 0.05

[arms.more_decay]
"optimizer.adamw.weight_decay" = 0.3
"""
    + _SEEDS.format(search=5)
)

_ABLATION = (
    _SET
    + """
# Single changes of the recipe as it is, with [set], which is the arm "baseline". Each table is one change.
[arms.dropout]
"model.dropout" = 0.05

[arms.decay]
"optimizer.adamw.weight_decay" = 0.3

[arms.clip]
"train.clip_norm" = 0.5

[arms.warmup]
"schedule.warmup_fraction" = 0.05

[combine]                     # which changes are also made together
mode = "pairs"                # none: each by itself; pairs: every two as well; full: every combination (2^4 arms);
                              # fraction: half or less of these (of 4 changes 8 arms, of 6 16), in which no effect of
                              # one change is mixed with what two do together; blueberry plan states what is mixed
"""
    + _SEEDS.format(search=5)
)

_SCHEDULE = (
    _SET
    + """
# The recipe as it is, with [set], is the arm "baseline". Each table below is one schedule beside it.
[arms.linear]
"schedule.kind" = "linear"

[arms.warmup_stable_decay]
"schedule.kind" = "warmup-stable-decay"

# The best rate depends on the schedule: each arm is compared at its own best of these. Without [tune] all are compared
# at the recipe's one rate, which favours the schedule it was chosen for; the report then says so.
[tune]
"optimizer.muon.learning_rate" = { log = [0.02, 0.16], points = 7 }
"""
    + _TUNED_SEEDS
)

_SEARCH = (
    _SET
    + """
# The recipe as it is, with [set], is the arm "baseline". Each table below is one architecture beside it.
[arms.dense]
"model.feed_forward.kind" = "swiglu"

[arms.latent]
"model.attention.kind" = "latent"
"model.attention.query_rank" = 16
"model.attention.key_value_rank" = 16
"model.attention.rope_size" = 32
"model.attention.plain_size" = 0
"model.attention.value_size" = 32

# A sweep for each architecture: they are compared each at its own best.
[tune]
"optimizer.muon.learning_rate" = { log = [0.02, 0.16], points = 7 }
"""
    + _TUNED_SEEDS
)

_HORIZON = """
[set]                         # applied to every arm
# One rate after a warmup of fixed length, until a decay at the end: longer runs begin where shorter have been, and
# no update is trained twice. Without these lines every length has a schedule of its own and trains all of it.
"schedule.kind" = "warmup-stable-decay"
"schedule.warmup_updates" = 10

[vary]
"optimizer.muon.learning_rate" = { log = [0.015, 0.24], points = 9 }

# The whole study under each of these: once, twice, four and eight times the updates. Conditions are not compared with
# one another; what the answer does from one to the next is the answer.
[across]
"train.updates" = [100, 200, 400, 800]
""" + _SEEDS.format(search=3)

_SCALING = (
    _SET
    + """
[vary]
"optimizer.muon.learning_rate" = { log = [0.015, 0.24], points = 9 }

# The whole study at each size: where does the optimum lie, and by which power of the size does it move? The largest is
# held out of the fit and checks it. Instead of the width: "model.num_layers", "train.tokens", "train.batch_sequences";
# a setting that is varied here may not stand in [set].
[across]
"model.width" = [32, 64, 96, 128]
"""
    + _SEEDS.format(search=3)
)

_DATA = (
    _SET
    + """
# How much text is enough? Training sees the first tokens of the training split, again and again where they are fewer
# than it takes (recipes/moe-nano.toml takes 204,800 in 200 updates, so 8, 4, 2 passes and 1 here; write your own);
# validation text and tokenizer are the same for all.
[vary]
"data.max_train_tokens" = [25_600, 51_200, 102_400, 204_800]

# Several corpora: does an answer hold on each? Then [vary] holds what is asked, and this the corpora:
# [across]
# "data.corpus" = ["python-stdlib", "synthetic"]
# Arms of different corpora against one another need one text to measure all: give the recipe a tokenizer that is not
# trained on it, say "byte", and a [data.sets.NAME], and here metric = "sets.NAME.loss".
"""
    + _SEEDS.format(search=5)
)

TEMPLATES: dict[str, tuple[str, str]] = {
    "sweep": ("Which Muon learning rate is best?", _SWEEP),
    "compare": ("Does either change lower the loss?", _COMPARE),
    "ablation": ("What does each change do, alone and with the others?", _ABLATION),
    "schedule": ("Which schedule is best, each at its own best rate?", _SCHEDULE),
    "search": ("Which architecture is best, each at its own best rate?", _SEARCH),
    "horizon": ("Does the best learning rate hold for longer training?", _HORIZON),
    "scaling": ("How does the best learning rate move with the width?", _SCALING),
    "data": ("How much text does this recipe need?", _DATA),
}
"""By kind: question and body."""


def study_file(kind: str, base: str) -> str:
    """A study file of a kind over the recipe at `base`, a path relative to the file.

    Raises: StudyError if there is no such kind.
    """
    if kind not in TEMPLATES:
        raise StudyError(f"new: {kind!r}; no such kind of study{did_you_mean(kind, TEMPLATES)}")
    question, body = TEMPLATES[kind]
    return _HEAD.format(question=toml_value(question), base=toml_value(base)) + body


def write_study_file(kind: str, base: Path, path: Path) -> Path:
    """Write a study file of a kind at `path`, over the recipe file `base`; returns `path`.

    Raises: StudyError if there is no such kind, if `path` exists or cannot be written; RecipeError if `base`
    is no recipe.
    """
    text = study_file(kind, os.path.relpath(base, path.parent).replace(os.sep, "/"))
    Recipe.load(base)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise StudyError(f"{path}: exists already; nothing is overwritten; choose another name with -o") from None
    except OSError as cause:
        raise StudyError(
            f"{path}: {cause.strerror}; a study file must be writable; choose another place with -o"
        ) from None
    return path
