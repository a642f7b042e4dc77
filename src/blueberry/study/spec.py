"""A study: a question stated before the first run, read from a TOML file."""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blueberry.errors import StudyError
from blueberry.identity import canonical_json
from blueberry.recipe import Recipe
from blueberry.study.axes import Axis, arm_name, read_axis
from blueberry.study.reading import (
    between,
    choice,
    quoted,
    refuse,
    refuse_unknown,
    scalar,
    section,
    settings,
    text,
    whole,
)
from blueberry.study.trainer_section import TrainerSection, check_trainer, read_trainer
from blueberry.toml import read_toml

BASELINE = "baseline"
METRICS = ("val_loss", "val_bits_per_byte", "val_perplexity", "train_loss")
"""Lower is better in each."""
KEYS = (
    "question", "base", "metric", "min_effect", "alpha",
    "set", "vary", "arms", "combine", "seeds", "strategy", "trainer",
)  # fmt: skip
MAX_ARMS = 10_000
MAX_SEEDS = 1_000
_ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}")


@dataclass(frozen=True)
class Arm:
    """One of the recipes that are compared."""

    name: str
    settings: dict[str, Any]
    """What tells it from the others: dotted setting to value. Empty for the baseline."""
    recipe: Recipe
    """With [set] and its own settings applied; its seed is the base recipe's."""


@dataclass(frozen=True)
class Seeds:
    """How many blocks. A block is a seed: one set of initial weights, one data order, one stream of random draws."""

    search: int = 3
    """Blocks that choose."""
    confirm: int = 5
    """Fresh blocks that report the chosen arm; 0 for none."""
    max: int = 16
    """Blocks a search may grow to; the confirming ones lie beyond, so that they are fresh whatever happens."""


@dataclass(frozen=True)
class Study:
    """What varies, how many seeds, which metric, which difference matters."""

    path: Path
    name: str
    """The file's stem."""
    question: str
    base: Recipe
    """What every arm starts from: the base recipe with [set] applied."""
    fixed: dict[str, Any]
    """[set]: dotted setting to value."""
    metric: str
    """Lower is better."""
    min_effect: float
    """The smallest difference that matters, in units of the metric."""
    alpha: float
    axes: tuple[Axis, ...]
    """Empty when named arms are compared."""
    arms: tuple[Arm, ...]
    """At least two, no two of which are the same run."""
    seeds: Seeds
    method: str
    """"grid": every arm on every searching seed."""
    trainer: TrainerSection | None = None
    """None: the built-in trainer, or one handed over in Python."""

    @classmethod
    def load(cls, path: str | Path) -> "Study":
        """Read a study file and its base recipe.

        Raises: StudyError or RecipeError, one line.
        """
        path = Path(path)
        return cls.parse(read_toml(path, StudyError), path)

    @classmethod
    def parse(cls, given: dict[str, Any], path: Path) -> "Study":
        """Check the contents of a study file. `path` names it and is what `base` is relative to.

        Raises: StudyError or RecipeError, one line.
        """
        place = str(path)
        refuse_unknown(given, KEYS, place)
        _refuse_what_is_not_built(given, place)
        trainer = read_trainer(given, path)
        question = text(given, "question", place)
        set_place = f"{place} [set]"
        fixed = {
            n: scalar(v, f'{set_place} "{n}"') for n, v in settings(section(given, "set", place), set_place).items()
        }
        base = _load_base(given, path).with_(fixed, place=set_place)
        axes = _read_axes(given, base, fixed, place)
        arms = _cross(axes, base, f"{place} [vary]") if axes else _read_arms(given, base, place)
        _refuse_equal_arms(arms, axes, place)
        seeds = _read_seeds(given, base, place)
        check_trainer(trainer, base, fixed, arms, seeds, place)
        return cls(
            path=path,
            name=path.stem,
            question=question,
            base=base,
            fixed=_as_in(base, fixed),
            metric=choice(given, "metric", place, "val_loss", METRICS)
            if trainer is None
            else text(given, "metric", place, "val_loss"),
            min_effect=between(given, "min_effect", place, 0.005, above=0, below=float("inf")),
            alpha=between(given, "alpha", place, 0.05, above=0, below=0.5),
            axes=axes,
            arms=arms,
            seeds=seeds,
            trainer=trainer,
            method=choice(section(given, "strategy", place), "method", f"{place} [strategy]", "grid", ("grid",)),
        )

    def __hash__(self) -> int:
        return hash((self.path, self.question))

    @property
    def varied(self) -> tuple[str, ...]:
        """The settings in which arms differ, in the order of the file."""
        return tuple(dict.fromkeys(name for arm in self.arms for name in arm.settings))


def _refuse_what_is_not_built(given: dict[str, Any], place: str) -> None:
    """What the file format names but this version cannot do is said, never ignored."""
    combine, strategy = section(given, "combine", place), section(given, "strategy", place)
    refuse_unknown(combine, ("mode",), f"{place} [combine]")
    refuse_unknown(strategy, ("method",), f"{place} [strategy]")
    if combine.get("mode") in ("pairs", "full", "fraction"):
        refuse(f'{place} [combine] "mode"', combine["mode"], 'not supported yet; use "none" and name each arm')
    if strategy.get("method") in ("race", "optuna"):
        refuse(f'{place} [strategy] "method"', strategy["method"], 'not supported yet; use "grid"')
    choice(combine, "mode", f"{place} [combine]", "none", ("none",))


def _load_base(given: dict[str, Any], path: Path) -> Recipe:
    if "trainer" in given and "base" not in given:
        return Recipe()  # a program with settings of its own needs none of ours
    base = text(given, "base", str(path))
    if base.startswith("ledger:"):
        refuse(f'{path} "base"', base, "a baseline of the ledger is not supported yet; give the path of a recipe")
    found = path.parent / base
    if "\0" in base or not found.is_file():
        refuse(f'{path} "base"', base, "no such file; the path is relative to the study file; mend it")
    return Recipe.load(found)


def _read_axes(given: dict[str, Any], base: Recipe, fixed: dict[str, Any], place: str) -> tuple[Axis, ...]:
    varied = settings(section(given, "vary", place), f"{place} [vary]")
    arms = section(given, "arms", place)
    if varied and arms:
        raise StudyError(
            f"{place} [arms]: given beside [vary]; a study has axes or named arms, else it asks two questions; "
            "move one into a second study"
        )
    if not varied and not arms:
        raise StudyError(f"{place}: nothing varies; a study compares two arms or more; add [vary] or [arms.NAME]")
    current = base.flat()
    for name in varied:
        _refuse_unfit(name, base, f"{place} [vary]")
        if name in fixed:
            refuse(
                f'{place} [set] "{name}"',
                fixed[name],
                "[vary] varies it too; a setting is one or the other; remove it here",
            )
    return tuple(read_axis(name, value, current.get(name), f"{place} [vary]") for name, value in varied.items())


def _refuse_unfit(name: str, base: Recipe, place: str) -> None:
    """Settings in which arms may not differ."""
    if name == "seed":
        refuse(f"{place} {quoted(name)}", name, "seeds are blocks, the same for every arm; use [seeds]")
    if name.startswith("data."):
        refuse(f"{place} {quoted(name)}", name, "arms must be measured on the same text; use [set], or a second study")


def _cross(axes: tuple[Axis, ...], base: Recipe, place: str) -> tuple[Arm, ...]:
    """Every combination, the last axis fastest."""
    num_arms = 1
    for axis in axes:
        num_arms *= len(axis.values)
    if num_arms > MAX_ARMS:
        raise StudyError(f"{place}: {num_arms} combinations; a grid has at most {MAX_ARMS}; leave some values out")
    arms = []
    for values in itertools.product(*(axis.values for axis in axes)):
        chosen = dict(zip((axis.setting for axis in axes), values, strict=True))
        arms.append(Arm(arm_name(chosen), chosen, base.with_(chosen, place=place)))
    return tuple(arms)


def _read_arms(given: dict[str, Any], base: Recipe, place: str) -> tuple[Arm, ...]:
    """The unchanged baseline, then the named arms in the order of the file."""
    arms = [Arm(BASELINE, {}, base)]
    for name, table in section(given, "arms", place).items():
        arm_place = f"{place} [arms.{quoted(name)[1:-1]}]"
        if name == BASELINE or not _ARM_NAME.fullmatch(name):
            rule = "an arm's name is made of letters, digits, _ . + - and is not that of the unchanged arm"
            raise StudyError(f"{arm_place}: {quoted(name)}; {rule}; choose another")
        if not isinstance(table, dict):
            refuse(arm_place, table, f"an arm is a table of settings; write [arms.{name}] above them")
        changed = {n: scalar(v, f"{arm_place} {quoted(n)}") for n, v in settings(table, arm_place).items()}
        for setting in changed:
            _refuse_unfit(setting, base, arm_place)
        recipe = base.with_(changed, place=arm_place)
        arms.append(Arm(name, _as_in(recipe, changed), recipe))
    if len(arms) > MAX_ARMS:
        raise StudyError(f"{place} [arms]: {len(arms)} arms; a study has at most {MAX_ARMS}; leave some out")
    return tuple(arms)


def _as_in(recipe: Recipe, given: dict[str, Any]) -> dict[str, Any]:
    """The values as the recipe holds them: 1 given for a number that need not be whole is 1.0."""
    return {name: recipe.get(name) for name in given}


def _refuse_equal_arms(arms: tuple[Arm, ...], axes: tuple[Axis, ...], place: str) -> None:
    """A dead knob: two arms whose settings differ, but not in anything that decides a number."""
    seen: dict[str, Arm] = {}
    for arm in arms:
        identity = canonical_json(arm.recipe.identity())
        twin = seen.setdefault(identity, arm)
        if twin is arm:
            continue
        where = f"{place} [vary]" if axes else f"{place} [arms.{arm.name}]"
        names = dict.fromkeys([*arm.settings, *twin.settings])
        knobs = [n for n in names if arm.settings.get(n) != twin.settings.get(n)] or list(names)
        named = f' "{knobs[0]}"' if knobs else ""
        raise StudyError(
            f'{where}{named}: arms "{twin.name}" and "{arm.name}" are the same run; '
            "arms must differ in something that decides a number; remove one or change a setting that counts"
        )


def _read_seeds(given: dict[str, Any], base: Recipe, place: str) -> Seeds:
    table = section(given, "seeds", place)
    place = f"{place} [seeds]"
    refuse_unknown(table, ("search", "confirm", "max"), place)
    seeds = Seeds(
        search=whole(table, "search", place, Seeds.search, least=1, most=MAX_SEEDS),
        confirm=whole(table, "confirm", place, Seeds.confirm, least=0, most=MAX_SEEDS),
        max=whole(table, "max", place, Seeds.max, least=1, most=MAX_SEEDS),
    )
    if seeds.search > seeds.max:
        refuse(f'{place} "search"', seeds.search, f"may not exceed max = {seeds.max}; raise max or lower search")
    if base.seed + seeds.max + seeds.confirm > 2**31:
        refuse(f'{place} "max"', seeds.max, f"seeds from {base.seed} would pass 2**31 - 1; lower the recipe's seed")
    return seeds
