"""A study: a question stated before the first run, read from a TOML file."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from blueberry.errors import StudyError
from blueberry.files import read_toml
from blueberry.recipe import Recipe
from blueberry.records import Goal
from blueberry.study.arms import (
    BASELINE,
    Arm,
    as_in,
    content,
    cross,
    read_named,
    refuse_equal_arms,
    refuse_never_met,
    same_setting,
)
from blueberry.study.axes import Axis, read_axis
from blueberry.study.baselines import PREFIX, Base, load_baseline
from blueberry.study.designs import Design
from blueberry.study.reading import between, quoted, refuse, refuse_unknown, scalar, section, settings, shown, text
from blueberry.study.strategy import Method, Seeds, Strategy, read_seeds, read_strategy
from blueberry.study.texts import read_goal, read_metric, refuse_unlike_texts
from blueberry.study.trainer_section import TrainerSection, check_trainer, read_trainer

__all__ = ["BASELINE", "KEYS", "Arm", "Seeds", "Strategy", "Study", "settled"]

KEYS = (
    "question", "base", "metric", "goal", "min_effect", "alpha",
    "set", "vary", "arms", "combine", "tune", "across", "seeds", "strategy", "trainer",
)  # fmt: skip
MAX_PARTS = 100
MAX_RUNS = 100_000


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
    trainer: TrainerSection | None = None
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
        refuse_unknown(given, KEYS, place)
        trainer = read_trainer(given, path)
        question = text(given, "question", place)
        set_place = f"{place} [set]"
        fixed = {
            n: scalar(v, f'{set_place} "{n}"') for n, v in settings(section(given, "set", place), set_place).items()
        }
        based = _load_base(given, path, store)
        base = based.recipe.with_(fixed, place=set_place)
        strategy = read_strategy(given, place)
        parted = _parted(given, place)
        proposed = strategy.method == "optuna"
        axes = _read_axes(given, "vary", base, fixed, place, has_points=not proposed or parted == "tune")
        _refuse_two_questions(given, axes, place)
        arms, design = (cross(axes, base, f"{place} [vary]"), None) if axes else read_named(given, base, place)
        refuse_never_met(axes, arms, f"{place} [vary]")
        if proposed and not axes and parted != "tune":
            refuse(f'{place} [strategy] "method"', "optuna", "proposals are points on axes; use [vary], not [arms]")
        for arm in arms:
            for name in arm.settings:
                _refuse_seed(name, f"{place} [{'vary' if axes else f'arms.{arm.name}'}]")
        refuse_equal_arms(arms, place)
        metric = read_metric(given, place) if trainer is None else text(given, "metric", place, "val_loss")
        study = cls(
            path=path,
            name=path.stem,
            question=question,
            base=base,
            fixed=as_in(base, fixed),
            metric=metric,
            min_effect=between(given, "min_effect", place, 0.005, above=0, below=float("inf")),
            alpha=between(given, "alpha", place, 0.05, above=0, below=0.5),
            axes=axes,
            arms=() if proposed and parted != "tune" else arms,
            seeds=read_seeds(given, base, place),
            strategy=strategy,
            design=design,
            goal=read_goal(given, metric, place),
            trainer=trainer,
            line=based.line,
            entry=based.entry,
        )
        refuse_unlike_texts(study.metric, arms, place)
        if parted is not None:
            study = (_tuned if parted == "tune" else _across)(study, given, place)
        _refuse_too_much(study, place)
        check_trainer(trainer, base, fixed, study.trained_arms or arms, study.seeds, place)
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


def _parted(given: dict[str, Any], place: str) -> Literal["tune", "across"] | None:
    """Which of the two sections that make a study of parts there is."""
    if "tune" in given and "across" in given:
        raise StudyError(
            f"{place} [across]: given beside [tune]; a study is made of parts in one way; move one into a second study"
        )
    for name in ("tune", "across"):
        if name in given:
            if not section(given, name, place):
                raise StudyError(f"{place} [{name}]: empty; it needs a setting with values; add one or remove it")
            return name
    return None


def _tuned(study: Study, given: dict[str, Any], place: str) -> Study:
    """Each arm becomes a part: a study of its own over the axes of [tune]."""
    tune_place = f"{place} [tune]"
    if not study.seeds.confirm:
        rule = "arms at their own best are compared on fresh seeds, since each best was chosen on the searching ones"
        refuse(f'{place} [seeds] "confirm"', 0, f"{rule}; give 5, or remove [tune]")
    proposed = study.method == "optuna"
    axes = _read_axes(given, "tune", study.base, study.fixed, place, has_points=not proposed)
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
    refuse_never_met(axes, (point for part in parts for point in part.arms), tune_place) if not proposed else None
    return _joined(study, parts, "tune", place)


def _across(study: Study, given: dict[str, Any], place: str) -> Study:
    """Each condition becomes a part: the whole study over the base recipe under that condition."""
    across_place = f"{place} [across]"
    axes = _read_axes(given, "across", study.base, study.fixed, place, has_points=True)
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


def _load_base(given: dict[str, Any], path: Path, store: Path | None) -> Base:
    if "trainer" in given and "base" not in given:
        return Base(Recipe(), path.stem)  # a program with settings of its own needs none of ours
    base = text(given, "base", str(path))
    if base.startswith(PREFIX):
        return load_baseline(base, path, store)
    found = path.parent / base
    if "\0" in base or not found.is_file():
        refuse(f'{path} "base"', base, "no such file; the path is relative to the study file; mend it")
    return Base(Recipe.load(found), found.stem)


def _read_axes(
    given: dict[str, Any], name: str, base: Recipe, fixed: dict[str, Any], place: str, *, has_points: bool
) -> tuple[Axis, ...]:
    """The axes of [vary], [tune] or [across]. Raises: StudyError."""
    table, here = settings(section(given, name, place), f"{place} [{name}]"), f"{place} [{name}]"
    current = base.flat()
    set_here = {same_setting(setting): setting for setting in fixed}
    for setting in table:
        _refuse_seed(setting, here)
        twin = set_here.get(same_setting(setting))
        if twin is not None:
            rule = f"[{name}] varies it too" if twin == setting else f"[{name}] varies {setting}, which says the same"
            refuse(f'{place} [set] "{twin}"', fixed[twin], f"{rule}; a setting is one or the other; remove it here")
    return tuple(read_axis(n, v, current.get(n), here, has_points=has_points) for n, v in table.items())


def _refuse_two_questions(given: dict[str, Any], axes: tuple[Axis, ...], place: str) -> None:
    arms = section(given, "arms", place)
    if axes and arms:
        raise StudyError(
            f"{place} [arms]: given beside [vary]; a study has axes or named arms, else it asks two questions; "
            "move one into a second study"
        )
    if not axes and not arms:
        if "tune" in given:
            raise StudyError(
                f"{place} [tune]: given without arms; it finds the best of each arm; add [vary] or [arms.NAME], or "
                "call it [vary]"
            )
        raise StudyError(f"{place}: nothing varies; a study compares two arms or more; add [vary] or [arms.NAME]")
    mode = section(given, "combine", place).get("mode", "none")
    if axes and mode != "none":
        refuse(
            f'{place} [combine] "mode"', mode, "only named arms are combined; axes make a grid by themselves; remove it"
        )


def _refuse_seed(name: str, place: str) -> None:
    if name == "seed":
        refuse(f"{place} {quoted(name)}", name, "seeds are blocks, the same for every arm; use [seeds]")


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
        what = f"{shown(arms)} arms on {each} seeds"
        raise StudyError(
            f"{place}: {what} are {num_runs} runs; a study has at most {MAX_RUNS}; leave out values or lower [seeds]"
        )
