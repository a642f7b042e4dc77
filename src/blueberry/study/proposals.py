"""Arms that come from the results of those before: by a search along one axis, by Optuna, or where a fraction left
effects mixed.

Neither keeps anything: it is told all results anew, in the order in which they were asked for, whenever a plan is
made. The same results so give the same proposals, in any process and after any interruption.
"""

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from blueberry.errors import RecipeError, StudyError
from blueberry.records import rounded
from blueberry.stats.factorial import Effect, best_combination, factor_to_fold, factorial_effects
from blueberry.stats.locate import LOG_FROM_RATIO, Space
from blueberry.study.arms import Arm, Axis, Design, cross, fold_over, holding, in_turn
from blueberry.study.spec import Study


def space_of(study: Study) -> Space:
    """The values that a search along the study's one axis may train. A range ends where no recipe is possible."""
    (axis,) = study.axes
    low, high = float(min(axis.values)), float(max(axis.values))
    space = Space(
        low=low,
        high=high,
        is_log=axis.scale == "log" or (axis.scale == "list" and low > 0 and high / low >= LOG_FROM_RATIO),
        is_whole=all(isinstance(value, int) for value in axis.values),
        listed=() if axis.is_range else tuple(sorted(map(float, axis.values))),
    )
    below, above = (_is_impossible(study, space.value(limit)) for limit in space.limits)
    return replace(space, stops=(low if below else None, high if above else None))


def _is_impossible(study: Study, value: float) -> bool:
    try:
        arm_at(study, value)
    except RecipeError:
        return True
    return False


def arm_at(study: Study, value: float) -> Arm:
    """The arm of a study of one axis at a value. Raises: RecipeError if no recipe can have it."""
    (axis,) = study.axes
    known = next((one for one in axis.values if one == value), None)
    whole = all(isinstance(one, int) for one in axis.values)
    given = known if known is not None else int(value) if whole else value
    (arm,) = cross((Axis(axis.setting, (given,), "list"),), study.base, f"{study.path} [strategy]")
    return arm


def along(arms: Mapping[float, Arm]) -> tuple[Arm, ...]:
    """Ascending along their axis."""
    return tuple(arms[value] for value in sorted(arms))


def _folded(study: Study, arms: tuple[Arm, ...], values: Mapping[str, Mapping[int, float]]) -> tuple[Arm, ...]:
    """The fold-over of a fraction, where interactions that matter are mixed in it."""
    effects, design = _effects(study, arms, values)
    factor = factor_to_fold(effects, least=study.min_effect)
    return () if factor is None else _joining(study, arms, fold_over(design, design.changes[factor]))


def _best_by_effects(study: Study, arms: tuple[Arm, ...], values: Mapping[str, Mapping[int, float]]) -> tuple[Arm, ...]:
    """The combination that the significant effects say is best, if it is not among the arms."""
    effects, design = _effects(study, arms, values)
    if not any(effect.is_significant for effect in effects):
        return ()
    best = best_combination(effects, len(design.changes))
    return _joining(study, arms, [tuple(design.changes[factor] for factor in best)])


ASKED_BY_EFFECTS = (_folded, _best_by_effects)
"""What a fraction goes on with, in turn, given its arms and what they measured, less being better."""


def _effects(
    study: Study, arms: tuple[Arm, ...], values: Mapping[str, Mapping[int, float]]
) -> tuple[tuple[Effect, ...], Design]:
    assert study.design is not None
    signs_KF = np.array([[1 if change in arm.factors else -1 for change in study.design.changes] for arm in arms])
    table_KN = np.array([list(values[arm.name].values()) for arm in arms])
    return factorial_effects(signs_KF, table_KN, alpha=study.alpha), study.design


def _joining(study: Study, arms: tuple[Arm, ...], asked: Sequence[tuple[str, ...]]) -> tuple[Arm, ...]:
    trained = {arm.factors for arm in arms}
    place = f"{study.path} [combine]"
    return tuple(holding(study.arms, held, study.base, place) for held in asked if held not in trained)


@dataclass
class Proposer:
    """Optuna, asked and told in turn, one batch after the other. Needs the extra `optuna`."""

    study: Study
    _optuna: Any
    """Optuna's study, in memory."""
    _asked: list[Any]

    @classmethod
    def begin(cls, study: Study) -> "Proposer":
        """Before the first batch. Raises: StudyError if Optuna is missing."""
        if importlib.util.find_spec("optuna") is None:
            raise StudyError(
                f"{study.path} [strategy] \"method\": 'optuna'; Optuna is not installed; "
                "pip install 'blueberry-lm[optuna]', or use \"grid\""
            )
        import optuna  # 0.8 s  # pyright: ignore[reportMissingImports]

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls some arguments of its sampler experimental
            # As many random trials as its default, but a quarter at most; runs in work count as bad ones.
            sampler = optuna.samplers.TPESampler(
                seed=study.strategy.seed,
                n_startup_trials=min(10, max(study.strategy.trials // 4, 2)),
                constant_liar=True,
            )
        return cls(study, optuna.create_study(sampler=sampler, direction="minimize"), [])

    @property
    def num_batches(self) -> int:
        return -(-self.study.strategy.trials // self.study.strategy.batch)

    def ask(self, batch: int) -> tuple[Arm, ...]:
        """The arms of a batch, the first of which is 0; some may have been proposed before.

        Raises: RecipeError if the axes hold a value, or two together, that no recipe can have.
        """
        strategy = self.study.strategy
        num = min(strategy.batch, strategy.trials - batch * strategy.batch)
        self._asked = [self._optuna.ask() for _ in range(num)]
        return tuple(self._arm(trial) for trial in self._asked)

    def tell(self, means: list[float]) -> None:
        """What the batch measured, in its order; infinite where a run diverged, which is worse than any number."""
        for trial, mean in zip(self._asked, means, strict=True):
            self._optuna.tell(trial, mean)

    def _arm(self, trial: Any) -> Arm:
        point: dict[str, Any] = {}
        place = f"{self.study.path} [strategy]"
        order = [axis.setting for axis in self.study.axes]
        for axis in in_turn(self.study.axes, place):
            if all(point.get(name) in values for name, values in axis.when):
                point[axis.setting] = _suggest(trial, axis)
        axes = tuple(Axis(name, (point[name],), "list") for name in order if name in point)
        (arm,) = cross(axes, self.study.base, place, among=order)
        return arm


def _suggest(trial: Any, axis: Axis) -> Any:
    if axis.scale == "list":
        return trial.suggest_categorical(axis.setting, list(axis.values))
    first, last = axis.values
    log = axis.scale == "log"
    if isinstance(first, int):
        return trial.suggest_int(axis.setting, first, last, log=log)
    return min(max(rounded(trial.suggest_float(axis.setting, first, last, log=log)), first), last)
