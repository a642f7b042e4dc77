"""Arms that train on different text: what may then differ, and what they must be measured on."""

import re
from collections.abc import Sequence
from typing import Any

from blueberry.errors import StudyError
from blueberry.identity import canonical_json
from blueberry.records import Goal, goal_of
from blueberry.study.arms import Arm
from blueberry.study.reading import choice, refuse, shown

METRICS = ("val_loss", "val_bits_per_byte", "val_perplexity", "train_loss", "val_accuracy")
NAMED_METRIC = re.compile(r"sets\.([A-Za-z0-9][A-Za-z0-9_-]{0,40})\.(loss|bits_per_byte|perplexity|accuracy)")
"""The same of one of the recipe's `data.sets`."""
GOALS: tuple[Goal, ...] = ("minimize", "maximize")
_DECIDE_THE_SETS = (
    "sets", "tokenizer", "tokenizer_path", "tokenizer_repository", "tokenizer_revision", "end_token",
    "mark_documents", "vocabulary_tokens", "validation_fraction", "test_fraction", "windows",
)  # fmt: skip
"""Settings of [data] that decide what text a named set is, and in which tokens."""
_DECIDE_TRAINING_ALONE = ("max_train_tokens",)
"""Settings of [data] that leave validation text, test text and tokenizer as they are."""


def read_metric(given: dict[str, Any], place: str) -> str:
    """The metric of a study. Raises: StudyError."""
    value = given.get("metric", "val_loss")
    if isinstance(value, str) and NAMED_METRIC.fullmatch(value):
        return value
    if isinstance(value, str) and value.startswith("sets."):
        refuse(f'{place} "metric"', value, "must be sets.NAME.loss, .bits_per_byte, .perplexity or .accuracy")
    return choice(given, "metric", place, "val_loss", METRICS)


def read_goal(given: dict[str, Any], metric: str, place: str) -> Goal:
    """Whether less or more of the metric is better. Raises: StudyError where its name says the opposite."""
    goal = GOALS[GOALS.index(choice(given, "goal", place, "minimize", GOALS))]  # pyright: ignore[reportArgumentType]
    known = goal_of(metric)
    if known == "maximize" != goal:
        refuse(f'{place} "metric"', metric, 'more of it is better, and the study minimizes it; add goal = "maximize"')
    if known == "minimize" != goal:
        refuse(f'{place} "goal"', goal, f"less {metric} is better; leave goal out")
    return goal


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
