"""A study: a question stated before the first run, read from a TOML file."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from blueberry.errors import RecipeError, StoreError, StudyError, did_you_mean
from blueberry.files import canonical_json, printable, read_toml
from blueberry.recipe import LENGTHS, SCRIPT, Recipe, recipe_path
from blueberry.records import Goal, is_usable_number
from blueberry.study.arms import (
    BASELINE,
    Arm,
    Axis,
    Design,
    Points,
    as_in,
    content,
    cross,
    read_axis,
    read_named,
    refuse_equal_arms,
    refuse_never_met,
)
from blueberry.study.program import PLACES, RECIPE, Program, line_pattern, own_name
from blueberry.study.sections import (
    LEDGER,
    NAMED_METRIC,
    PROPOSING,
    Method,
    Seeds,
    Strategy,
    StudyFile,
    Weights,
    inherit,
    quoted,
    refuse,
    refuse_seed,
    same_setting,
    scalars,
    settings,
    shown,
)
from blueberry.study.store import Store

__all__ = ["BASELINE", "Arm", "Seeds", "Strategy", "Study"]

POINTS: dict[Method, Points] = {"locate": "optional", "optuna": "none"}
"""Of axes between two ends; a grid and a race need them."""
LEAST_VALUES = 5
"""Of a list, that a search along one axis makes sense of."""
MOST_VALUES = 100
"""That a search along one axis may come to."""
MAX_PARTS = 100
MAX_RUNS = 100_000
LINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}")
"""Of a line of baselines."""
_DECIDE_THE_SETS = (
    "sets", "tokenizer", "tokenizer_path", "tokenizer_repository", "tokenizer_revision", "end_token",
    "mark_documents", "vocabulary_tokens", "pad_vocabulary", "validation_fraction", "test_fraction", "windows",
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
    """At least two, no two of which are the same run; none while they are yet to be proposed (`plan.as_planned`)."""
    seeds: Seeds
    strategy: Strategy = field(default_factory=Strategy)
    target: float | None = None
    """Of the metric, fixed beforehand: from which update on runs clear it is said."""
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
    keep_weights: Weights = "best"
    """Of runs whose recipe keeps them."""

    @property
    def searches_without_weights(self) -> bool:
        """Whether fresh runs of the best arm will be there to have weights, so that those that choose need none."""
        return self.keep_weights == "best" and self.seeds.confirm > 0

    @classmethod
    def load(cls, path: str | Path, store: str | Path | None = None) -> "Study":
        """Read a study file and its base recipe, which may be a baseline in the ledger of a store.

        Raises: StudyError or RecipeError, one line.
        """
        path = Path(path)
        return cls.parse(read_toml(path, StudyError), path, Path(store) if store else None)

    @classmethod
    def parse(cls, given: dict[str, Any], path: Path, store: Path | None = None) -> "Study":
        """Check the contents of a study file. `path` names it and is what `base` and `extends` are relative to.

        `store` is the folder whose ledger "ledger:NAME" is looked up in, by default as for a command.

        Raises: StudyError or RecipeError, one line.
        """
        place = str(path)
        if not path.stem.strip(".") or printable(path.stem) != path.stem:
            raise StudyError(f"{place!r}: a study is named after its file; give that a name that can be printed")
        file = StudyFile.read(inherit(given, path), place)
        fixed = scalars(file.set, f"{place} [set]")
        based = _load_base(file, path, store)
        base = based.recipe.with_(fixed, place=f"{place} [set]")
        if base.seed + file.seeds.max + 2 * file.seeds.confirm > 2**31:  # twice: see [tune]
            rule = f"seeds from {base.seed} would pass 2**31 - 1; lower the recipe's seed"
            refuse(f'{place} [seeds] "max"', file.seeds.max, rule)
        proposed = file.strategy.method in PROPOSING
        axes = _read_axes(file, "vary", base, fixed, place, points="needed" if file.tune else None)
        if file.strategy.method == "locate" and not file.tune:
            refuse_no_line(axes, f"{place} [vary]")
        if axes:
            arms, design = cross(axes, base, f"{place} [vary]"), None
        else:
            arms, design = read_named(file.arms, file.combine.mode, base, place)
        refuse_never_met(axes, arms, f"{place} [vary]")
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
            target=file.target,
            axes=axes,
            arms=() if proposed and not file.tune else arms,
            seeds=file.seeds,
            strategy=file.strategy,
            design=design,
            goal=file.goal,
            trainer=file.trainer,
            line=based.line,
            entry=based.entry,
            keep_weights=file.keep_weights,
        )
        refuse_unlike_texts(study.metric, arms, place)
        if file.tune:
            study = _tuned(study, file, place)
        elif file.across:
            study = _across(study, file, place)
        _refuse_too_much(study, place)
        _check_program(study, fixed, place)
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

    @cached_property
    def sampled_arms(self) -> tuple[Arm, ...]:
        """The same, and where they are still to be proposed those at the values that a range is given by: what holds of
        every arm can be asked of them."""
        if self.parts:
            return tuple(arm for part in self.parts for arm in part.sampled_arms)
        return self.arms or tuple(cross(self.axes, self.base, str(self.path)))


def refuse_no_line(axes: Sequence[Axis], place: str) -> None:
    """Raises: StudyError unless there is one numeric axis, with values enough to search among."""
    given = [axis.setting for axis in axes]
    if len(axes) != 1:
        rule = 'method = "locate" searches along one axis; keep one, or use "grid", "race" or "optuna"'
        refuse(place, given, rule)
    (axis,) = axes
    if not all(is_usable_number(value) for value in axis.values):
        refuse(f'{place} "{axis.setting}"', list(axis.values), 'method = "locate" needs numbers; use "grid" or "race"')
    if not axis.is_range and len(axis.values) < LEAST_VALUES:
        rule = f'method = "locate" needs a range or {LEAST_VALUES} values to search among; use "grid" or "race"'
        refuse(f'{place} "{axis.setting}"', list(axis.values), rule)


def _tuned(study: Study, file: StudyFile, place: str) -> Study:
    """Each arm becomes a part: a study of its own over the axes of [tune]."""
    tune_place = f"{place} [tune]"
    if not study.seeds.confirm:
        rule = "arms at their own best are compared on fresh seeds, since each best was chosen on the searching ones"
        refuse(f'{place} [seeds] "confirm"', 0, f"{rule}; give 5, or remove [tune]")
    proposed = study.method in PROPOSING
    axes = _read_axes(file, "tune", study.base, study.fixed, place, study.varied)
    parts = []
    for arm in study.arms:
        points = cross(axes, arm.recipe, tune_place, knowing=study.varied)
        own = tuple(axis for axis in axes if any(axis.setting in point.settings for point in points))
        if not own:
            raise StudyError(
                f'{tune_place}: nothing to tune in arm "{arm.name}"; each arm is compared at its own best; '
                "add an axis whose conditions it meets"
            )
        if study.method == "locate":
            refuse_no_line(own, tune_place)
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
    axes = _read_axes(file, "across", study.base, study.fixed, place, study.varied, points="needed")
    conditions = cross(axes, study.base, across_place)
    refuse_never_met(axes, conditions, across_place)
    parts = []
    for condition in conditions:
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
        return load_baseline(file.base, f'{path} "base"', store or default_store(), begun_by=path)
    try:
        found = recipe_path(file.base, path.parent)
    except RecipeError as error:
        raise StudyError(f'{path} "base": {error}') from None
    return Base(Recipe.load(found), found.stem)


def default_store() -> Path:
    """`BLUEBERRY_STORE`, else `.blueberry` in the current folder."""
    return Path(os.environ.get("BLUEBERRY_STORE") or ".blueberry")


def load_baseline(given: str, place: str, folder: Path, *, begun_by: Path | None = None) -> Base:
    """The newest baseline of the line that "ledger:NAME" says, in the store `folder`.

    For a study file that has begun, `begun_by`, the one it began from.
    Raises: StudyError naming `place`.
    """
    name = given.removeprefix(LEDGER)
    try:
        with Store.open(folder, create=False) as opened:
            rows = opened.ledger()
            begun = None if begun_by is None else opened.bases().get(str(begun_by.absolute()))
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
    varied: Iterable[str] = (),
    *,
    points: Points | None = None,
) -> tuple[Axis, ...]:
    """Of a section. A setting has one place: not [set], nor among those `varied` elsewhere. Without `points` the
    strategy decides whether axes have them. Raises: StudyError."""
    points = points or POINTS.get(file.strategy.method, "needed")
    here = f"{place} [{name}]"
    table = settings(getattr(file, name), here)
    current = base.flat()
    set_here, varied_elsewhere = ({same_setting(setting): setting for setting in one} for one in (fixed, varied))
    for axis in table:
        refuse_seed(axis, here)
        twin = set_here.get(same_setting(axis))
        if twin is not None:
            rule = f"[{name}] varies it too" if twin == axis else f"[{name}] varies {axis}, which says the same"
            refuse(f'{place} [set] "{twin}"', fixed[twin], f"{rule}; a setting is one or the other; remove it here")
    axes = tuple(read_axis(n, v, current.get(n), here, points=points) for n, v in table.items())
    for axis in axes:
        if twin := varied_elsewhere.get(same_setting(axis.setting)):
            where = "vary" if file.vary else "arms"
            refuse(f'{here} "{axis.setting}"', list(axis.values), f'[{where}] changes "{twin}" too; remove one')
    return axes


def _refuse_too_much(study: Study, place: str) -> None:
    """Raises: StudyError where a study could have more runs than anybody plans."""
    parts = study.parts or (study,)
    each = study.seeds.max if study.method in ("race", "locate") else study.seeds.search
    asked = {"optuna": study.strategy.trials, "locate": MOST_VALUES}
    arms = sum(asked.get(study.method, len(part.arms)) for part in parts)
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


def _check_program(study: Study, fixed: Iterable[str], place: str) -> None:
    """A setting that is given and that no program reads is a dead knob; one that is read must have a value; what is
    read of a program's lines must have the metric.

    Raises: StudyError naming the first of them.
    """
    program, num_seeds = study.trainer, study.seeds.search + study.seeds.confirm
    arms = study.sampled_arms
    if program is None:
        for name in (f"{SCRIPT}{name}" for arm in arms for name in arm.recipe.script):
            raise StudyError(
                f'{place} "{name}": given; the built-in trainer reads no settings under {SCRIPT[:-1]}; '
                "add [trainer] with a command that reads it, or leave it out"
            )
        return
    place = f"{place} [trainer]"
    printed = {name for one in program.stdout for name in line_pattern(one)[1] if name}
    if printed and study.metric not in printed | set(map(own_name, printed)):
        raise StudyError(
            f'{place} "stdout": {program.stdout[0]!r:.60}; no pattern reads "{study.metric}", the metric of the study'
            f"{did_you_mean(study.metric, sorted(printed))}; mend a pattern or the metric"
        )
    for arm in arms:
        flat = {**dict.fromkeys(PLACES, ""), **arm.recipe.flat()}
        for name in sorted(program.placeholders):
            if flat.get(name) is None:
                where = f'in arm "{arm.name}"; give it in [set] or [vary]' if name not in flat else _no_value(name)
                raise StudyError(f'{place} "{{{name}}}": has no value {where}')
    varied = dict.fromkeys(name for arm in arms for name in arm.settings)
    own = (f"{SCRIPT}{name}" for name in study.base.script)
    for name in dict.fromkeys([*varied, *fixed, *own]):
        if not program.reads(name) and not (name in LENGTHS and program.is_told_its_length):
            raise StudyError(
                f'{place} "{name}": given, but the command is not told it; a setting must reach the program; '
                f"put {{{name}}} or {{{RECIPE}}} into the command, or leave it out"
            )
    _refuse_one_command(program, arms, place)
    if num_seeds > 1 and not program.reads("seed"):
        raise StudyError(
            f'{place} "seed": {num_seeds} seeds, but the command is not told which; runs of one arm would be the same '
            "run; put {seed} into the command"
        )


def _refuse_one_command(program: Program, arms: Sequence[Arm], place: str) -> None:
    """What differs between arms must still differ once it is words."""
    told: dict[tuple[str, ...], Arm] = {}
    for arm in arms:
        values = {**dict.fromkeys(PLACES, ""), **arm.recipe.flat()}
        try:
            words = (*program.words(values), *program.variables(values).values())
        except ValueError as broken:
            given, _, rule = str(broken).partition(": ")
            raise StudyError(f'{place} {quoted(given)}: in arm "{arm.name}" {rule}') from None
        twin = told.setdefault(words, arm)
        if twin is not arm and RECIPE not in program.placeholders:
            raise StudyError(
                f'{place} "command": arms "{twin.name}" and "{arm.name}"; the command is the same for both, so they '
                "would be one run; tell the program in what they differ"
            )


def _no_value(name: str) -> str:
    other = next((other for other in LENGTHS if name in LENGTHS and other != name), None)
    return f"here; the length is given as {other}; write {{{other}}}" if other else "here; give it in [set]"
