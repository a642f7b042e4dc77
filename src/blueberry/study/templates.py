"""The commented study files that `blueberry new` writes."""

import os
from pathlib import Path

from blueberry.errors import StudyError, did_you_mean
from blueberry.recipe import Recipe
from blueberry.toml import toml_value

_HEAD = """\
question   = {question}
base       = {base}  # a recipe, relative to this file
metric     = "val_loss"       # lower is better: val_loss, val_bits_per_byte, val_perplexity, train_loss
min_effect = 0.01             # the smallest difference that matters, in units of the metric (nats per token)
alpha      = 0.05             # how often a claim may be wrong

[set]                         # applied to every arm
"train.updates" = 200
"""

_SWEEP = """
[vary]                        # one axis, or several for a grid; a list, {{ log = .. }} or {{ linear = .. }}
# Best at most a factor of 1.4 apart near the optimum, and wide enough that it is not at an end.
"optimizer.muon.learning_rate" = {{ log = [0.004, 0.25], points = 13 }}

[seeds]                       # a seed fixes initial weights, data order and random draws
search  = 3                   # on which every arm is trained, to choose the best
confirm = 5                   # fresh ones for the best arm alone, whose number is reported; 0 for none
max     = 16                  # the search may grow to so many; the confirming seeds begin after them
"""

_COMPARE = """
# The recipe as it is, with [set], is the arm "baseline". Each table below is one arm beside it: what it changes.
[arms.less_warmup]
"schedule.warmup_fraction" = 0.02

[arms.more_decay]
"optimizer.adamw.weight_decay" = 0.3

[seeds]                       # a seed fixes initial weights, data order and random draws; arms are compared within
search  = 5                   # on which every arm is trained
confirm = 5                   # fresh ones for the best arm alone, whose number is reported; 0 for none
max     = 16                  # the search may grow to so many; the confirming seeds begin after them
"""

_TEMPLATES: dict[str, tuple[str, str]] = {
    "sweep": ("Which Muon learning rate is best?", _SWEEP),
    "compare": ("Does either change lower the loss?", _COMPARE),
}


def study_file(kind: str, base: str) -> str:
    """A study file of a kind, "sweep" or "compare", over the recipe at `base`, a path relative to the file.

    Raises: StudyError if there is no such kind.
    """
    if kind not in _TEMPLATES:
        hint = did_you_mean(kind, _TEMPLATES)
        raise StudyError(f"new: {kind!r}; no such kind of study{hint}; choose from: {', '.join(_TEMPLATES)}")
    question, body = _TEMPLATES[kind]
    return _HEAD.format(question=toml_value(question), base=toml_value(base)) + body.format()


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
