"""A study: a question stated before the first run, read from a TOML file."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from blueberry.errors import RecipeError, StoreError, StudyError, did_you_mean
from blueberry.files import printable, read_toml
from blueberry.identity import canonical_json
from blueberry.recipe import Recipe, recipe_path
from blueberry.records import Goal
from blueberry.study.arms import (
    BASELINE,
    Arm,
    Axis,
    as_in,
    content,
    cross,
    quoted,
    read_axis,
    read_named,
    refuse,
    refuse_equal_arms,
    refuse_never_met,
    same_setting,
    scalars,
    settings,
    shown,
)
from blueberry.study.designs import Design
from blueberry.study.program import Program, check_program
from blueberry.study.sections import NAMED_METRIC, Method, Seeds, Strategy, StudyFile
from blueberry.study.store import Store

__all__ = ["BASELINE", "Arm", "Seeds", "Strategy", "Study", "settled"]

MAX_PARTS = 100
MAX_RUNS = 100_000
LEDGER = "ledger:"
LINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}")
"""Of a line of baselines."""
_DECIDE_THE_SETS = (
    "sets", "tokenizer", "tokenizer_path", "tokenizer_repository", "tokenizer_revision", "end_token",
    "mark_documents", "vocabulary_tokens", "validation_fraction", "test_fraction", "windows",
)  # fmt: skip
"""Settings of [data] that decide what text a named set is, and in which tokens."""
_DECIDE_TRAINING_ALONE = ("max_train_tokens",)
"""Settings of [data] that leave validation text, test text and tokenizer as they are."""


@dataclass(frozen=True)
class Study:
    """What varies, how many seeds, which metric, which difference matters."""

    path: Path
    name: str
    """The file's stem; of a part, that of its arm or condition."""
    question: str
    base: Recipe
    """What every arm starts from: the base recipe with [set] applied."""
    fixed: dict[str, Any]
    """[set]: dotted setting to value."""
    metric: str
    min_effect: float
    """The smallest difference that matters, in units of the metric."""
    alpha: float
    axes: tuple[Axis, ...]
    """Empty when named arms are compared."""
    arms: tuple[Arm, ...]
    """At least two, no two of which are the same run; none while they are still to be proposed (see `settled`)."""
    seeds: Seeds
    strategy: Strategy = field(default_factory=Strategy)
    parts: tuple["Study", ...] = ()
    """Studies that this one is made of, one an arm, named as it is; the runs are theirs. Empty for most studies."""
    joined: Literal["tune", "across"] | None = None
    """How the parts answer the question. "tune": each arm at its own best over the axes of [tune], compared on fresh
    seeds. "across": the same study under each condition of [across]; what changes between them is the answer."""
    design: Design | None = None
    """How named arms are combined; None where arms are points on axes."""
    goal: Goal = "minimize"
    """Whether less or more of the metric is better."""
    trainer: Program | None = None
    """None: the built-in trainer, or one handed over in Python."""
    line: str = ""
    """The line of baselines it belongs to: the base recipe's file stem, or the NAME of "ledger:NAME"."""
    entry: int | None = None
    """Number of the ledger's entry it is based on; None: on a recipe file."""

    @classmethod
    def load(cls, path: str | Path, store: str | Path | None = None) -> "Study":
        """Read a study file and its base recipe, which may be a baseline in the ledger of a store.

        Raises: StudyError or RecipeError, one line.
        """
        path = Path(path)
        return cls.parse(read_toml(path, StudyError), path, Path(store) if store else None)

    @classmethod
    def parse(cls, given: dict[str, Any], path: Path, store: Path | None = None) -> "Study":
        """Check the contents of a study file. `path` names it and is what `base` is relative to.

        `store` is the folder whose ledger "ledger:NAME" is looked up in, by default as for a command.

        Raises: StudyError or RecipeError, one line.
        """
        place = str(path)
        if not path.stem.strip(".") or printable(path.stem) != path.stem:
            raise StudyError(f"{place!r}: a study is named after its file; give that a name that can be printed")
        file = StudyFile.read(given, place)
        fixed = scalars(file.set, f"{place} [set]")
        based = _load_base(file, path, store)
        base = based.recipe.with_(fixed, place=f"{place} [set]")
        _refuse_late_seeds(file.seeds, base, place)
        proposed = file.strategy.method == "optuna"
        axes = _read_axes(file, "vary", base, fixed, place, has_points=not proposed or bool(file.tune))
        if axes:
            arms, design = cross(axes, base, f"{place} [vary]"), None
        else:
            arms, design = read_named(file.arms, file.combine.mode, base, place)
        refuse_never_met(axes, arms, f"{place} [vary]")
        for arm in arms:
            for name in arm.settings:
                _refuse_seed(name, f"{place} [{'vary' if axes else f'arms.{arm.name}'}]")
        refuse_equal_arms(arms, place)
        study = cls(
            path=path,
            name=path.stem,
            question=" ".join(file.question.split()),
            base=base,
            fixed=as_in(base, fixed),
            metric=file.metric,
            min_effect=file.min_effect,
            alpha=file.alpha,
            axes=axes,
            arms=() if proposed and not file.tune else arms,
            seeds=file.seeds,
            strategy=file.strategy,
            design=design,
            goal=file.goal,
            trainer=file.trainer,
            line=based.line,
            entry=based.entry,
        )
        refuse_unlike_texts(study.metric, arms, place)
        if file.tune:
            study = _tuned(study, file, place)
        elif file.across:
            study = _across(study, file, place)
        _refuse_too_much(study, place)
        num_seeds = study.seeds.search + study.seeds.confirm
        check_program(study.trainer, base, fixed, study.trained_arms or arms, num_seeds, place)
        return study

    def __hash__(self) -> int:
        return hash((self.path, self.name))

    @property
    def method(self) -> Method:
        return self.strategy.method

    @property
    def varied(self) -> tuple[str, ...]:
        """The settings in which arms differ, in the order of the file."""
        names = dict.fromkeys(axis.setting for axis in self.axes)
        return tuple(names | dict.fromkeys(name for arm in self.arms for name in arm.settings))

    @property
    def trained_arms(self) -> tuple[Arm, ...]:
        """Those that runs are made of: the parts', where there are parts."""
        return tuple(arm for part in self.parts for arm in part.trained_arms) if self.parts else self.arms


def settled(study: Study, arms: tuple[Arm, ...], parts: Iterable[Study]) -> Study:
    """The study with the arms that were proposed for it, and its parts with theirs."""
    return replace(study, arms=arms or study.arms, parts=tuple(parts))


def _tuned(study: Study, file: StudyFile, place: str) -> Study:
    """Each arm becomes a part: a study of its own over the axes of [tune]."""
    tune_place = f"{place} [tune]"
    if not study.seeds.confirm:
        rule = "arms at their own best are compared on fresh seeds, since each best was chosen on the searching ones"
        refuse(f'{place} [seeds] "confirm"', 0, f"{rule}; give 5, or remove [tune]")
    proposed = study.method == "optuna"
    axes = _read_axes(file, "tune", study.base, study.fixed, place, has_points=not proposed)
    _refuse_shared(axes, study.varied, "vary" if study.axes else "arms", tune_place)
    parts = []
    for arm in study.arms:
        points = cross(axes, arm.recipe, tune_place, knowing=study.varied)
        own = tuple(axis for axis in axes if any(axis.setting in point.settings for point in points))
        if not own:
            raise StudyError(
                f'{tune_place}: nothing to tune in arm "{arm.name}"; each arm is compared at its own best; '
                "add an axis whose conditions it meets"
            )
        for point in points:
            for name in point.settings:
                _refuse_seed(name, tune_place)
        refuse_equal_arms(points, place)
        refuse_unlike_texts(study.metric, points, place)
        plain = tuple(replace(axis, when=tuple(c for c in axis.when if c[0] not in study.varied)) for axis in own)
        part = replace(study, name=arm.name, base=arm.recipe, axes=plain, arms=() if proposed else points, design=None)
        parts.append(part)
    if not proposed:
        refuse_never_met(axes, (point for part in parts for point in part.arms), tune_place)
    return _joined(study, parts, "tune", place)


def _across(study: Study, file: StudyFile, place: str) -> Study:
    """Each condition becomes a part: the whole study over the base recipe under that condition."""
    across_place = f"{place} [across]"
    axes = _read_axes(file, "across", study.base, study.fixed, place, has_points=True)
    _refuse_shared(axes, study.varied, "vary" if study.axes else "arms", across_place)
    conditions = cross(axes, study.base, across_place)
    refuse_never_met(axes, conditions, across_place)
    parts = []
    for condition in conditions:
        for name in condition.settings:
            _refuse_seed(name, across_place)
        moved = tuple(
            replace(arm, recipe=condition.recipe.with_(arm.settings, place=across_place)) for arm in study.arms
        )
        refuse_equal_arms(moved, place)
        parts.append(replace(study, name=condition.name, base=condition.recipe, arms=moved))
    return _joined(replace(study, axes=axes, arms=conditions, design=None), parts, "across", place)


def _joined(study: Study, parts: list[Study], how: Literal["tune", "across"], place: str) -> Study:
    if not 2 <= len(parts) <= MAX_PARTS:
        raise StudyError(
            f"{place} [{how}]: {len(parts)} parts; a study has 2 to {MAX_PARTS} of them; leave some values out"
        )
    seen: dict[str, tuple[str, str]] = {}
    for part in parts:
        for arm in part.arms:
            other = seen.setdefault(content(arm.recipe), (part.name, arm.name))
            if other != (part.name, arm.name):
                raise StudyError(
                    f'{place} [{how}]: arm "{other[1]}" of "{other[0]}" and arm "{arm.name}" of "{part.name}" are the '
                    "same run; parts must differ in something that decides a number; change or remove one"
                )
    return replace(study, parts=tuple(parts), joined=how)


class Base(NamedTuple):
    """What a study starts from."""

    recipe: Recipe
    line: str
    """The line of baselines that its winner would join, unless said otherwise."""
    entry: int | None = None
    """Number of the ledger's entry it is; None: a recipe file."""


def _load_base(file: StudyFile, path: Path, store: Path | None) -> Base:
    if file.base is None:
        return Base(Recipe(), path.stem)  # a program with settings of its own needs none of ours
    if file.base.startswith(LEDGER):
        return _load_baseline(file.base, path, store)
    try:
        found = recipe_path(file.base, path.parent)
    except RecipeError as error:
        raise StudyError(f'{path} "base": {error}') from None
    return Base(Recipe.load(found), found.stem)


def default_store() -> Path:
    """`BLUEBERRY_STORE`, else `.blueberry` in the current folder."""
    return Path(os.environ.get("BLUEBERRY_STORE") or ".blueberry")


def _load_baseline(given: str, path: Path, store: Path | None) -> Base:
    """The newest baseline of a line; for a study file that has begun, the one it began from."""
    folder, place, name = store or default_store(), f'{path} "base"', given.removeprefix(LEDGER)
    try:
        with Store.open(folder, create=False) as opened:
            rows, begun = opened.ledger(), opened.bases().get(str(path.absolute()))
    except StoreError as error:
        refuse(place, given, f"the ledger cannot be read ({error}); give the path of a recipe, or mend --store")
    own = [row for row in rows if row.line == name and row.recipe is not None]
    if not own:
        known = did_you_mean(name, {row.line for row in rows}) or "; its ledger is empty"
        refuse(place, given, f"{folder} has no such line of baselines{known}; blueberry promote begins one")
    row = next((row for row in own if begun is not None and row.number == begun.number), own[-1])
    assert row.recipe is not None
    return Base(Recipe.parse(row.recipe, place=f"{folder}: {given}, entry {row.number}"), name, row.number)


def _read_axes(
    file: StudyFile,
    name: Literal["vary", "tune", "across"],
    base: Recipe,
    fixed: dict[str, Any],
    place: str,
    *,
    has_points: bool,
) -> tuple[Axis, ...]:
    """Raises: StudyError."""
    here = f"{place} [{name}]"
    table = settings(getattr(file, name), here)
    current = base.flat()
    set_here = {same_setting(setting): setting for setting in fixed}
    for axis in table:
        _refuse_seed(axis, here)
        twin = set_here.get(same_setting(axis))
        if twin is not None:
            rule = f"[{name}] varies it too" if twin == axis else f"[{name}] varies {axis}, which says the same"
            refuse(f'{place} [set] "{twin}"', fixed[twin], f"{rule}; a setting is one or the other; remove it here")
    return tuple(read_axis(n, v, current.get(n), here, has_points=has_points) for n, v in table.items())


def _refuse_seed(name: str, place: str) -> None:
    if name == "seed":
        refuse(f"{place} {quoted(name)}", name, "seeds are blocks, the same for every arm; use [seeds]")


def _refuse_late_seeds(seeds: Seeds, base: Recipe, place: str) -> None:
    if base.seed + seeds.max + 2 * seeds.confirm > 2**31:  # twice: see [tune]
        refuse(
            f'{place} [seeds] "max"', seeds.max, f"seeds from {base.seed} would pass 2**31 - 1; lower the recipe's seed"
        )


def _refuse_shared(axes: Iterable[Axis], varied: Iterable[str], where: str, place: str) -> None:
    """A setting has one place. Raises: StudyError."""
    others = {same_setting(name): name for name in varied}
    for axis in axes:
        if same_setting(axis.setting) in others:
            named = others[same_setting(axis.setting)]
            refuse(f'{place} "{axis.setting}"', list(axis.values), f'[{where}] changes "{named}" too; remove one')


def _refuse_too_much(study: Study, place: str) -> None:
    """Raises: StudyError where a study could have more runs than anybody plans."""
    parts = study.parts or (study,)
    each = study.seeds.max if study.method == "race" else study.seeds.search
    arms = sum(study.strategy.trials if study.method == "optuna" else len(part.arms) for part in parts)
    num_runs = arms * each + (len(parts) + (study.joined == "tune")) * study.seeds.confirm
    if num_runs > MAX_RUNS:
        raise StudyError(
            f"{place}: {arms} arms on {each} seeds are {num_runs} runs; a study has at most {MAX_RUNS}; leave out "
            "values or lower [seeds]"
        )


def refuse_unlike_texts(metric: str, arms: Sequence[Arm], place: str) -> None:
    """Arms are compared on the same tokens, whatever they train on.

    Validation text is cut from the training corpora, so arms of different corpora have different validation text.
    They may differ in `data.max_train_tokens`, or else be measured on one of `data.sets`, which hashing keeps out of
    every training split, in the same tokens: with a tokenizer that is not trained on each arm's own text.
    Raises: StudyError.
    """
    named = NAMED_METRIC.fullmatch(metric)
    for arm in arms:
        if named and named[1] not in arm.recipe.data.sets:
            rule = f'arm "{arm.name}" has no such set; add [data.sets.{named[1]}] to the recipe'
            refuse(f'{place} "metric"', metric, rule)
    texts = {canonical_json(data): data for arm in arms if (data := _measured(arm))}
    if len(texts) < 2:
        return
    first, other = list(texts.values())[:2]
    setting = next(name for name in first if first[name] != other[name])
    where = f'{place} "data.{setting}": {shown(first[setting])} and {shown(other[setting])}'
    if setting in _DECIDE_THE_SETS or any(first[name] != other[name] for name in _DECIDE_THE_SETS):
        raise StudyError(
            f"{where}; arms must be measured on the same tokens; use [set], or [across] for a study of each"
        )
    if not named:
        raise StudyError(
            f"{where}; arms must be measured on the same text; vary data.max_train_tokens, give metric = "
            '"sets.NAME.loss" and data.sets.NAME, or use [across] for a study of each'
        )
    if first["tokenizer"] == "bpe":
        raise StudyError(
            f'{where}; data.tokenizer = "bpe" is trained on each arm\'s own text, so their tokens differ; '
            'use "byte", "file" or "hugging-face"'
        )


def _measured(arm: Arm) -> dict[str, Any]:
    data = arm.recipe.data.model_dump(mode="json")
    return {name: value for name, value in data.items() if name not in _DECIDE_TRAINING_ALONE}
