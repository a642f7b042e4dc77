"""What a study file may hold, section by section, how its values are read, and the ones that `blueberry new` writes."""

import math
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn, Self

from pydantic import Field, ValidationError, model_validator

import blueberry
from blueberry.errors import StudyError, did_you_mean, one_line
from blueberry.files import is_missing, printable, read_toml, refused_as, toml_value
from blueberry.recipe import EITHER_OR, LENGTHS, Recipe, is_script_setting, recipe_path, setting_names
from blueberry.records import LARGEST, LARGEST_INTEGER, SMALLEST, Goal, goal_of, is_usable_number
from blueberry.settings import Section, setting
from blueberry.study.program import Program

MAX_SEEDS = 1_000
MAX_TRIALS = 1_000
MAX_QUESTION = 1_000
"""Characters."""
METRICS = ("val_loss", "val_bits_per_byte", "val_perplexity", "train_loss", "val_accuracy")
"""Of the built-in trainer; and those of its named sets."""
SHOWN_CHARACTERS = 60
NAMED_METRIC = re.compile(r"sets\.([A-Za-z0-9][A-Za-z0-9_-]{0,40})\.(loss|bits_per_byte|perplexity|accuracy)")


class Seeds(Section):
    """How many blocks. A block is a seed: one set of initial weights, one data order, one stream of random draws."""

    search: int = setting(3, "blocks that choose", ge=1, le=MAX_SEEDS)
    confirm: int = setting(5, "fresh blocks that report the chosen arm; 0 for none", ge=0, le=MAX_SEEDS)
    max: int = setting(
        16,
        "blocks a search may grow to; the confirming ones lie beyond, so that they are fresh whatever happens",
        ge=1,
        le=MAX_SEEDS,
    )

    @model_validator(mode="after")
    def _search_within_max(self) -> Self:
        if self.search > self.max:
            raise ValueError(f"search: {self.search}; may not exceed max = {self.max}; raise max or lower search")
        return self


Method = Literal["grid", "locate", "race", "optuna"]
PROPOSING: tuple[Method, ...] = ("locate", "optuna")
"""Their arms come from the results of those before."""


class Strategy(Section):
    """Which arms get which seeds."""

    method: Method = setting(
        "grid",
        "grid: every arm on every searching seed; locate: of one numeric axis, coarse to fine, only the values and "
        "seeds that narrow down where the best is; race: more seeds for the arms that are still open, look by look; "
        "optuna: arms are proposed from the results of those before",
    )
    runs: int | None = setting(
        None, "locate: searching runs to spend; left out, as many as it takes to be within min_effect", ge=9, le=100_000
    )
    trials: int = setting(40, "optuna: proposals in all", ge=2, le=MAX_TRIALS)
    batch: int = setting(4, "optuna: proposals made at once, to be trained side by side", ge=1, le=MAX_TRIALS)
    seed: int = setting(0, "optuna: of the sampler", ge=0, lt=2**31)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, method in {"trials": "optuna", "batch": "optuna", "seed": "optuna", "runs": "locate"}.items():
            if name in self.model_fields_set and self.method != method:
                given = getattr(self, name)
                raise ValueError(f'{name}: {given}; it belongs to another method; set method = "{method}" or remove it')
        if self.batch > self.trials:
            raise ValueError(f"batch: {self.batch}; may not exceed trials = {self.trials}; lower it")
        return self


Mode = Literal["none", "pairs", "full", "fraction"]


class Combine(Section):
    """Which changes of [arms] are also made together."""

    mode: Mode = "none"


Table = dict[str, Any]
Weights = Literal["best", "all"]
"""Whose final weights a study keeps: those of arms that may be the best, or of every run."""


class StudyFile(Section):
    """What a study file may hold. Settings and axes are checked with the recipe they belong to."""

    extends: str | tuple[str, ...] = ()
    question: str
    base: str | None = None
    metric: str = "val_loss"
    goal: Goal = "minimize"
    min_effect: float = Field(0.005, ge=1e-12, le=1e12)
    alpha: float = Field(0.05, ge=1e-9, lt=0.5)
    target: float | None = Field(None, ge=-1e12, le=1e12)
    keep_weights: Weights = "best"
    set: Table = Field({})
    vary: Table = Field({})
    arms: Table = Field({})
    combine: Combine = Combine()
    tune: Table = Field({})
    across: Table = Field({})
    seeds: Seeds = Seeds()
    strategy: Strategy = Strategy()
    trainer: Program | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("question", "base", "metric"):
            given = getattr(self, name)
            if given is not None and not (0 < len(given.strip()) <= MAX_QUESTION and printable(given) == given):
                raise ValueError(
                    f"{name}: {shown(given)}; must be a text of 1 to {MAX_QUESTION:,} characters that can be printed; "
                    "change it"
                )
        if self.base is None and self.trainer is None:
            raise ValueError('base: left out; every study starts from a recipe; add base = "recipes/moe-nano.toml"')
        if self.tune and self.across:
            raise ValueError(
                "across: given beside [tune]; a study is made of parts in one way; move one into a second study"
            )
        for name in ("tune", "across"):
            if name in self.model_fields_set and not getattr(self, name):
                raise ValueError(f"{name}: empty; it needs a setting with values; add one or remove it")
        self._has_one_question()
        self._has_a_known_metric()
        return self

    def _has_one_question(self) -> None:
        if self.vary and self.arms:
            raise ValueError(
                "arms: given beside [vary]; a study has axes or named arms, else it asks two questions; "
                "move one into a second study"
            )
        if not self.vary and not self.arms:
            if self.tune:
                raise ValueError(
                    "tune: given without arms; it finds the best of each arm; add [vary] or [arms.NAME], or call it "
                    "[vary]"
                )
            raise ValueError("vary: left out; a study compares two arms or more; add [vary] or [arms.NAME]")
        if self.vary and self.combine.mode != "none":
            raise ValueError(
                f"combine.mode: {self.combine.mode!r}; only named arms are combined; axes make a grid by themselves; "
                "remove it"
            )
        if self.strategy.method in PROPOSING and self.arms and not self.tune:
            given = self.strategy.method
            raise ValueError(f"strategy.method: {given!r}; it looks for values on axes; use [vary], not [arms]")

    def _has_a_known_metric(self) -> None:
        if self.trainer is None and self.metric not in METRICS and not NAMED_METRIC.fullmatch(self.metric):
            known = (*METRICS, *(f"sets.NAME.{what}" for what in ("loss", "bits_per_byte", "perplexity", "accuracy")))
            raise ValueError(f"metric: {self.metric!r:.60}; not one of the known{did_you_mean(self.metric, known)}")
        known = goal_of(self.metric)
        if known == "maximize" != self.goal:
            raise ValueError(
                f'metric: {self.metric!r:.60}; more of it is better, and the study minimizes it; add goal = "maximize"'
            )
        if known == "minimize" != self.goal:
            raise ValueError(f"goal: {self.goal!r}; less {self.metric} is better; leave goal out")

    @classmethod
    def read(cls, given: dict[str, Any], place: str) -> Self:
        """Raises: StudyError, one line: `place [section] "key": ...`."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            said = one_line(error, place, cls).removeprefix(f'{place} "')
            name, _, rest = said.partition('"')
            head, _, inner = name.partition(".")
            if head not in SECTIONS or head not in given:
                raise StudyError(f'{place} "{said}') from None
            if "no such setting" in rest:  # the others of its section, as they stand under its heading
                rest = rest.replace(f"{head}.", "")
            raise StudyError(f"{place} [{head}]" + (f' "{inner}"' if inner else "") + rest) from None


KEYS = tuple(StudyFile.model_fields)
SECTIONS = ("set", "vary", "arms", "combine", "tune", "across", "seeds", "strategy", "trainer")
COMPARED = ("vary", "arms", "tune", "across")
"""Sections that say what is compared."""
MOST_FILES = 20
"""That a study may be made of."""
_FOLDER = Path(blueberry.__file__).parent / "templates"
TEMPLATES = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))
"""The kinds there are."""
DEFAULT_BASE = "moe-nano"
LEDGER = "ledger:"
"""Begins a base that is the baseline of a line."""


def inherit(given: dict[str, Any], path: Path) -> dict[str, Any]:
    """A study file's contents with those of the files that it extends, each over those named before it.

    What is compared ([vary], [arms], [tune], [across]) is replaced whole, an empty section takes it away; other
    sections are joined key by key. A setting has one place: where an axis varies it, or [set] says it in another
    unit, what the files before said of it goes. `extends` and `base` are relative to the file that says them.
    Raises: StudyError.
    """
    files = _extended(given, path, (path,))
    if len(files) == 1:
        return files[0][1]
    made: dict[str, Any] = {}
    for place, contents in files:
        _take_back(made.get("set", {}), contents, place)
        for name, value in contents.items():
            old: Any = made.get(name)
            if name not in COMPARED and isinstance(value, dict) and isinstance(old, dict):
                made[name] = {**old, **value}
            else:
                made[name] = value
    return {name: value for name, value in made.items() if value != {} or name not in COMPARED}


def _take_back(said: dict[str, Any], contents: dict[str, Any], place: Path) -> None:
    """Out of what [set] has said before go the settings that a file gives another place or in another unit.

    Its own [set] gets their dotted names.
    """
    for name in ("set", "vary", "tune", "across"):
        if not isinstance(contents.get(name), dict):
            continue
        table = settings(contents[name], f"{place} [{name}]")
        if name == "set":
            contents["set"] = table
        new = {same_setting(name) for name in table}
        for old in [old for old in said if same_setting(old) in new]:
            if name != "set" or old not in table:
                del said[old]


def _extended(given: dict[str, Any], path: Path, via: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    """The files that make a study with their contents, the last of them its own; each without `extends`."""
    names = given.get("extends", ())
    names = [names] if isinstance(names, str) else names
    place = f'{path} "extends"'
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise StudyError(f"{place}: {names!r:.80}; must be the path of a study file, or a list of them; mend it")
    files: list[tuple[Path, dict[str, Any]]] = []
    for name in names:
        other = path.parent / name
        if is_missing(other):
            raise StudyError(f"{place}: {name!r:.80}; there is no such file; it is relative to this one; mend it")
        if any(other.resolve() == one.resolve() for one in via):
            raise StudyError(f"{place}: {name!r:.80}; a file cannot extend itself, however indirectly; remove it")
        contents = read_toml(other, StudyError)
        for key in contents:
            if key not in KEYS:
                raise StudyError(f'{other} "{key}": no such setting{did_you_mean(key, KEYS)}')
        files += _extended(contents, other, (*via, other))
        if len(files) > MOST_FILES:
            raise StudyError(f"{place}: more than {MOST_FILES} files; a study is made of at most so many; join some")
    own = {key: value for key, value in given.items() if key != "extends"}
    base = own.get("base")
    if isinstance(base, str) and len(via) > 1 and not is_missing(path.parent / base):
        own["base"] = os.path.relpath(path.parent / base, via[0].parent)
    return [*files, (path, own)]


def study_file(kind: str, base: str) -> str:
    """A study file of a kind over a recipe: a path relative to the file, or the name of one that comes with Blueberry.

    Raises: StudyError if there is no such kind.
    """
    if kind not in TEMPLATES:
        raise StudyError(f"new: {kind!r}; no such kind of study{did_you_mean(kind, TEMPLATES)}")
    template = (_FOLDER / f"{kind}.toml").read_text(encoding="utf-8")
    own = f"base       = {toml_value(DEFAULT_BASE)} "
    assert own in template
    return template.replace(own, f"base       = {toml_value(base)} ", 1)


def write_study_file(kind: str, base: str | Path, path: Path) -> Path:
    """Write a study file of a kind at `path`, over the recipe `base` or the baseline "ledger:NAME"; returns `path`.

    Raises: StudyError if there is no such kind, if `path` exists or cannot be written; RecipeError if `base`
    is no recipe.
    """
    is_name = str(base).startswith(LEDGER)
    if not is_name:
        found = recipe_path(base)
        Recipe.load(found)
        is_name = str(base) == found.stem
    text = study_file(kind, str(base) if is_name else os.path.relpath(base, path.parent).replace(os.sep, "/"))
    if os.path.lexists(path):
        raise StudyError(f"{path}: exists already; nothing is overwritten; choose another name with -o")
    with (
        refused_as(StudyError, path, "cannot be written", "a study file must be; choose another place with -o"),
        path.open("x", encoding="utf-8") as file,
    ):
        file.write(text)
    return path


# --- The values of its tables ---


def refuse(place: str, given: Any, rule: str) -> NoReturn:
    """Raise StudyError; `rule` is "the rule it breaks; the remedy"."""
    raise StudyError(f"{place}: {shown(given)}; {rule}")


def refuse_seed(name: str, place: str) -> None:
    """Raises: StudyError if a seed is varied."""
    if name == "seed":
        refuse(f'{place} "seed"', name, "seeds are blocks, the same for every arm; use [seeds]")


def shown(value: Any) -> str:
    """A value on one line, cut to a readable length."""
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return "an integer beyond 64 bits"
    text = repr(value) if not isinstance(value, (dict, list)) or len(value) < 20 else f"{len(value)} items"
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def quoted(name: str) -> str:
    """A name as it stands in a message: in double quotes, without line breaks."""
    return f'"{shown(name)[1:-1]}"'


def _declared(name: str, known: Collection[str]) -> str:
    """A setting as it is declared: with NAME for the name that a user has given a set or a part of a mixture."""
    parts = name.split(".")
    asked = [name, *(".".join([*parts[:at], "NAME", *parts[at + 1 :]]) for at in range(1, len(parts)))]
    return next((one for one in asked if any(f"{setting}.".startswith(f"{one}.") for setting in known)), name)


def settings(table: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Values by the dotted name of the setting, whether the file wrote "a.b" = 1, a.b = 1 or [x.a] b = 1.

    Raises: StudyError if a name is no setting of any recipe, stands twice, or both lengths of a run are given.
    """
    known = setting_names()
    named: dict[str, Any] = {}
    left = list(reversed([*table.items()]))
    while left:
        name, value = left.pop()
        own = is_script_setting(name)  # a name that the user has chosen
        declared = _declared(name, known)
        if not own and isinstance(value, dict) and any(setting.startswith(f"{declared}.") for setting in known):
            left += [(f"{name}.{inner}", item) for inner, item in reversed(value.items())]
            if value:
                continue
        if declared not in known and not own:
            raise StudyError(f"{place} {quoted(name)}: no such setting{did_you_mean(name, known)}")
        if name in named:
            refuse(f'{place} "{name}"', value, "the setting stands here twice; keep one")
        named[name] = value
    if named.keys() >= set(LENGTHS):
        refuse(f'{place} "train.tokens"', named["train.tokens"], "train.updates is given too; keep one of them")
    return named


def scalar(value: Any, place: str) -> Any:
    """Raises: StudyError unless it is a text, a number or true/false."""
    if not isinstance(value, (str, bool)) and not is_usable_number(value):
        if isinstance(value, float) and math.isfinite(value):
            refuse(place, value, f"a number is 0 or from {SMALLEST:g} to {LARGEST:g} in size; change it")
        refuse(place, value, "must be a text, a number or true/false; write one value")
    return value


def scalars(table: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A table of settings with one value each. Raises: StudyError."""
    return {name: scalar(value, f"{place} {quoted(name)}") for name, value in settings(table, place).items()}


def same_setting(name: str) -> str:
    """One name for settings that say the same in two units."""
    return EITHER_OR.get(name, name)
