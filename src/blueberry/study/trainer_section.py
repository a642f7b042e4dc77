"""The section [trainer] of a study file: any program as the trainer, its settings put into words of a command."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blueberry.errors import StudyError, did_you_mean
from blueberry.recipe import LENGTHS, SCRIPT, Recipe, is_script_setting, setting_names
from blueberry.study.arms import Arm
from blueberry.study.reading import between, quoted, refuse, refuse_unknown, section, text
from blueberry.study.strategy import Seeds

KEYS = ("command", "result", "time_limit_seconds", "environment", "files", "resumes", "keep_outputs")
OUT, RECIPE, PYTHON, HERE = "out", "recipe", "python", "here"
PLACES = (OUT, RECIPE, PYTHON, HERE)
"""Placeholders that are no settings: the run's folder, its recipe as JSON, our Python, the study file's folder."""
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True)
class TrainerSection:
    """A program that trains one run each time it is called."""

    command: tuple[str, ...]
    """Words, with {placeholders}. No shell reads them."""
    folder: Path
    """Of the study file: where the files that the command names are looked for."""
    result: str = "metrics.jsonl"
    """One JSON object a line; relative to the run's folder, which is the program's working folder."""
    time_limit_seconds: float | None = None
    """For one run; then the program and all that it has started are killed, and the run has crashed."""
    environment: tuple[tuple[str, str], ...] = ()
    """Added to ours, with {placeholders}."""
    files: tuple[str, ...] = ()
    """Patterns of further files whose content decides the numbers."""
    resumes: bool = False
    """The program goes on from what it finds in its folder; otherwise that is emptied before each attempt."""
    keep_outputs: bool = False
    """Keep the folder of a run that has ended, too. That of one that crashed is always kept."""

    @property
    def placeholders(self) -> frozenset[str]:
        """All that command and environment name."""
        words = (*self.command, *(value for _, value in self.environment))
        return frozenset(name for word in words for name in names_in(word))

    def reads(self, setting: str) -> bool:
        """Whether the program is told a setting."""
        return RECIPE in self.placeholders or setting in self.placeholders

    @property
    def is_told_its_length(self) -> bool:
        return any(self.reads(length) for length in LENGTHS)


def names_in(word: str) -> list[str]:
    """The placeholders of a word. Raises: ValueError at a lone brace."""
    found = []
    for match in _PLACEHOLDER.finditer(word):
        if match[0] in ("{", "}"):
            raise ValueError(word)
        if match[1] is not None:
            found.append(match[1])
    return found


def filled(word: str, values: dict[str, Any]) -> str:
    """A word with its placeholders replaced; {{ and }} are braces."""

    def replaced(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        value = values[match[1]]
        return str(value).lower() if isinstance(value, bool) else str(value)

    return _PLACEHOLDER.sub(replaced, word)


def read_trainer(given: dict[str, Any], path: Path) -> TrainerSection | None:
    """[trainer], if the file has it. `check_trainer` holds it against the rest of the study.

    Raises: StudyError, one line.
    """
    if "trainer" not in given:
        return None
    table, place = section(given, "trainer", str(path)), f"{path} [trainer]"
    refuse_unknown(table, KEYS, place)
    limit = table.get("time_limit_seconds")
    made = TrainerSection(
        command=_words(table, "command", place),
        folder=path.parent.absolute(),
        result=text(table, "result", place, TrainerSection.result),
        time_limit_seconds=None
        if limit is None
        else between(table, "time_limit_seconds", place, 0.0, above=0, below=float("inf")),
        environment=_environment(table, place),
        files=_words(table, "files", place) if "files" in table else (),
        resumes=_flag(table, "resumes", place),
        keep_outputs=_flag(table, "keep_outputs", place),
    )
    if not made.command:
        refuse(f'{place} "command"', [], 'a command has a word or more; write command = ["{python}", "train.py"]')
    result = Path(made.result)
    if result.is_absolute() or ".." in result.parts or "\0" in made.result:
        refuse(f'{place} "result"', made.result, "a path inside the run's folder; give it without .. and leading /")
    try:
        names = made.placeholders
    except ValueError as broken:
        rule = "a brace stands alone; a placeholder is {setting}, and a brace itself is {{ or }}; mend it"
        refuse(f'{place} "command"', str(broken), rule)
    known = setting_names() - {f"{SCRIPT}NAME"} | set(PLACES)
    for name in sorted(names):
        if name not in known and not is_script_setting(name):
            raise StudyError(f"{place} {quoted('{' + name + '}')}: no such placeholder{did_you_mean(name, known)}")
    return made


def check_trainer(
    trainer: TrainerSection | None,
    base: Recipe,
    fixed: Iterable[str],
    arms: Sequence[Arm],
    seeds: Seeds,
    place: str,
) -> None:
    """A setting that is given and that no program reads is a dead knob; one that is read must have a value.

    Raises: StudyError naming the first of them.
    """
    if trainer is None:
        for name in (f"{SCRIPT}{name}" for arm in arms for name in arm.recipe.script):
            raise StudyError(
                f"{place} {quoted(name)}: given; the built-in trainer reads no settings under {SCRIPT[:-1]}; "
                "add [trainer] with a command that reads it, or leave it out"
            )
        return
    for arm in arms:
        flat = arm.recipe.flat()
        for name in sorted(trainer.placeholders - {*PLACES}):
            if flat.get(name) is None:
                where = f'in arm "{arm.name}"; give it in [set] or [vary]' if name not in flat else _no_value(name)
                raise StudyError(f"{place} [trainer] {quoted('{' + name + '}')}: has no value {where}")
    varied = dict.fromkeys(name for arm in arms for name in arm.settings)
    own = (f"{SCRIPT}{name}" for name in base.script)
    for name in dict.fromkeys([*varied, *fixed, *own]):
        if not trainer.reads(name) and not (name in LENGTHS and trainer.is_told_its_length):
            raise StudyError(
                f"{place} [trainer] {quoted(name)}: given, but the command is not told it; a setting must reach the "
                f"program; put {{{name}}} or {{{RECIPE}}} into the command, or leave it out"
            )
    if seeds.search + seeds.confirm > 1 and not trainer.reads("seed"):
        raise StudyError(
            f'{place} [trainer] "seed": {seeds.search + seeds.confirm} seeds, but the command is not told which; runs '
            "of one arm would be the same run; put {seed} into the command"
        )


def _no_value(name: str) -> str:
    other = next((other for other in LENGTHS if name in LENGTHS and other != name), None)
    return f"here; the length is given as {other}; write {{{other}}}" if other else "here; give it in [set]"


def _words(table: dict[str, Any], name: str, place: str) -> tuple[str, ...]:
    value = table.get(name)
    if value is None:
        raise StudyError(f'{place} "{name}": left out; [trainer] must have it; add {name} = ["{{python}}", "train.py"]')
    if not isinstance(value, list) or not all(isinstance(word, str) and word and "\0" not in word for word in value):
        refuse(f'{place} "{name}"', value, f'must be a list of words; write {name} = ["first", "second"]')
    return tuple(value)


def _environment(table: dict[str, Any], place: str) -> tuple[tuple[str, str], ...]:
    inner = f"{place} [environment]"
    pairs = section(table, "environment", place)
    for name, value in pairs.items():
        if not name or "=" in name or "\0" in name or not isinstance(value, str) or "\0" in value:
            refuse(f"{inner} {quoted(name)}", value, "a variable has a name without = and a text; put it in quotes")
    return tuple(pairs.items())


def _flag(table: dict[str, Any], name: str, place: str) -> bool:
    value = table.get(name, False)
    if not isinstance(value, bool):
        refuse(f'{place} "{name}"', value, "must be true or false; change it")
    return value
