"""The section [trainer] of a study file: any program as the trainer, and what its command is told of a run."""

import ast
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import PurePath
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from blueberry.errors import StudyError, did_you_mean
from blueberry.recipe import LENGTHS, SCRIPT, Recipe, is_script_setting, setting_names
from blueberry.settings import Section, setting
from blueberry.study.arms import Arm, quoted

OUT, RECIPE, PYTHON, HERE = "out", "recipe", "python", "here"
PLACES = (OUT, RECIPE, PYTHON, HERE)
"""Placeholders that are no settings: the run's folder, its recipe as JSON, our Python, the study file's folder."""
Words = Annotated[tuple[str, ...], Field(strict=False)]
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_DIGITS = r"(?:(?:\d{1,3}(?:,\d{3})++(?!\d)|\d++)(?:\.\d++)?+|\.\d++)(?:[eE][-+]?\d++)?+"
_NUMBER = rf"([-+]?(?:{_DIGITS}|(?i:nan|inf(?:inity)?+)))"
_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_FUNCTIONS: dict[str, Callable[..., Any]] = {"int": int, "round": round, "min": min, "max": max}
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: math.pow,
    ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
MOST_CHARACTERS = 200
"""Of a placeholder."""


class Program(Section):
    """A program that trains one run each time it is called."""

    command: Words = setting((), "words of the command, with placeholders; no shell reads them; must be given")
    result: str = setting("metrics.jsonl", "the file of metrics, in the run's folder")
    stdout: Words = setting((), "patterns of what the program prints, to read the metrics from instead of a file")
    cwd: str | None = setting(None, "the program's working folder, relative to the study file; else the run's own")
    time_limit_seconds: float | None = setting(None, "for one run; then the program is killed", unit="seconds", gt=0)
    environment: dict[str, str] = setting({}, "variables to add, with placeholders")
    files: Words = setting((), "patterns of further files whose content decides the numbers")
    resumes: bool = setting(
        False, "goes on from what it finds in its folder, which else is emptied before each attempt"
    )
    keep_outputs: bool = setting(False, "keep the folder of a run that has ended, too; one that crashed always stays")

    def __hash__(self) -> int:
        return hash((self.command, self.files))

    @field_validator("stdout", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _ = self.placeholders  # that they can be read
        if not self.command or not all(word and "\0" not in word for word in self.command):
            raise ValueError(
                f"command: {list(self.command)!r:.60}; a command has a word or more, none of them empty; "
                'write command = ["{python}", "train.py"]'
            )
        for name, value in self.environment.items():
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(f"environment: {name!r:.60}; a variable has a name without =, and no NUL; mend it")
        for one in self.stdout:
            line_pattern(one)
        path = PurePath(self.result)
        if not self.result.strip() or path.is_absolute() or ".." in path.parts or "\0" in self.result:
            raise ValueError(
                f"result: {self.result!r:.60}; a path inside the run's folder; give it without .. and leading /"
            )
        if self.stdout and "result" in self.model_fields_set:
            raise ValueError(f"stdout: {self.stdout[0]!r:.60}; result is given too; metrics have one place; keep one")
        if self.cwd is not None and not self.stdout and not self.placeholders & {OUT, RECIPE}:
            raise ValueError(
                f"cwd: {self.cwd!r:.60}; {self.result} is looked for in the run's own folder; tell the program that "
                f"folder, {{{OUT}}}, in the command, or read what it prints with stdout"
            )
        return self

    @cached_property
    def placeholders(self) -> frozenset[str]:
        """All names in command and environment. Raises: ValueError, "{name}: rule; remedy"."""
        words = (*self.command, *self.environment.values())
        return frozenset(name for word in words for text in _placeholders(word) for name in _expression(text).names)

    def reads(self, name: str) -> bool:
        """Whether the program is told a setting."""
        return RECIPE in self.placeholders or name in self.placeholders

    @property
    def is_told_its_length(self) -> bool:
        return any(self.reads(length) for length in LENGTHS)

    def words(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """The command for a run whose settings and places have these values. Raises: ValueError."""
        return tuple(filled(word, values) for word in self.command)

    def variables(self, values: Mapping[str, Any]) -> dict[str, str]:
        return {name: filled(value, values) for name, value in self.environment.items()}


def filled(word: str, values: Mapping[str, Any]) -> str:
    """A word with its placeholders replaced; {{ and }} are braces. Raises: ValueError, "{expression}: rule; remedy"."""
    return PLACEHOLDER.sub(
        lambda match: match[0][0] if match[1] is None else _written(_expression(match[1]).value(values)), word
    )


def _placeholders(word: str) -> list[str]:
    found = []
    for match in PLACEHOLDER.finditer(word):
        if match[0] in ("{", "}"):
            raise ValueError(
                f"command: {word!r:.60}; a brace stands alone, and a placeholder is {{setting}}; a brace itself is "
                "written {{ or }}"
            )
        if match[1] is not None:
            found.append(match[1])
    return found


class _Expression:
    """What stands in a placeholder: a name, or arithmetic with names and numbers."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self._tree: ast.expr | None = None
        self._shown = "{" + self.text[:60] + "}"
        if self.text in known_names() or is_script_setting(self.text):
            self.names = frozenset((self.text,))
            return
        variables: list[str] = []
        named = _NAME.sub(lambda match: self._variable(match, variables), self.text)
        try:
            assert len(self.text) <= MOST_CHARACTERS
            self._tree = ast.parse(named, mode="eval").body
            self._check(self._tree)
        except (AssertionError, SyntaxError, ValueError, RecursionError, MemoryError):
            rule = "a placeholder is a setting, or arithmetic (+ - * / // % ** int round min max) with settings"
            raise ValueError(f"{self._shown}: {rule}; mend it") from None
        self._variables = tuple(variables)
        self.names = frozenset(variables)
        for name in variables:
            if name not in known_names() and not is_script_setting(name):
                raise ValueError(f"{{{name}}}: no such placeholder{did_you_mean(name, known_names())}")
        if not variables or self.names & {*PLACES}:
            raise ValueError(f"{self._shown}: arithmetic is with settings; write the word itself")

    def _variable(self, match: re.Match[str], variables: list[str]) -> str:
        if match[0] in _FUNCTIONS and self.text[match.end() :].lstrip().startswith("("):
            return match[0]
        if match[0] not in variables:
            variables.append(match[0])
        return f"v{variables.index(match[0])}"

    def _check(self, node: ast.expr) -> None:
        match node:
            case ast.Constant(value=int() | float()) | ast.Name():
                return
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                self._check(left)
                self._check(right)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
                self._check(operand)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and args:
                for argument in args:
                    self._check(argument)
            case _:
                raise ValueError(self.text)

    def value(self, values: Mapping[str, Any]) -> Any:
        """Raises: ValueError, "{expression}: rule; remedy"."""
        if self._tree is None:
            return values[self.text]
        numbers = {f"v{place}": values[name] for place, name in enumerate(self._variables)}
        for name, number in zip(self._variables, numbers.values(), strict=True):
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise ValueError(f"{self._shown}: {name} is {number!r:.60}, no number; leave the arithmetic out")
        try:
            result = _evaluated(self._tree, numbers)
            if not abs(result) <= 1e300:
                raise OverflowError
            return result if isinstance(result, int) else float(f"{result:.15g}")
        except (ArithmeticError, ValueError, TypeError) as broken:
            given = ", ".join(f"{name} = {values[name]!r}" for name in self._variables)
            why = "divides by zero" if isinstance(broken, ZeroDivisionError) else "has no value"
            raise ValueError(f"{self._shown}: it {why} where {given}; mend it") from None


_expression = lru_cache(maxsize=1000)(_Expression)


def _evaluated(node: ast.expr, numbers: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return numbers[name]
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_evaluated(left, numbers), _evaluated(right, numbers))
        case ast.UnaryOp(op=op, operand=operand):
            return _OPERATORS[type(op)](_evaluated(operand, numbers))
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name](*(_evaluated(argument, numbers) for argument in args))
    raise AssertionError(node)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@lru_cache(maxsize=1)
def known_names() -> frozenset[str]:
    return frozenset(setting_names() - {f"{SCRIPT}NAME"} | {*PLACES})


@lru_cache(maxsize=100)
def line_pattern(text: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """A pattern such as "step {update}: val loss {val_loss}", and the names in its order.

    {name} stands for a number, {} for one that is not read, a blank for any blanks, {{ and }} for braces; all else for
    itself. It matches anywhere in a line, but not from within a word. No choice in it can be taken back, so that no
    line takes long. Raises: ValueError, "stdout: given; rule; remedy".
    """

    def refused(rule: str) -> ValueError:
        return ValueError(f'stdout: {text!r:.60}; {rule}; write e.g. "val loss {{val_loss}}"')

    if "(?P<" in text:
        raise refused("a pattern is the text itself with {name} where a number stands, no regular expression")
    parts, end = [""], 0  # texts and, between them, names
    for match in PLACEHOLDER.finditer(text):
        parts[-1] += text[end : match.start()]
        end = match.end()
        if match[0] in ("{", "}"):
            raise refused("a brace stands alone; a brace itself is written {{ or }}")
        if match[1] is None:
            parts[-1] += match[0][0]
        else:
            parts += [match[1].strip(), ""]
    parts[-1] += text[end:]
    parts[0], parts[-1] = parts[0].lstrip(), parts[-1].rstrip()
    texts, names = parts[::2], parts[1::2]
    if not any(names) or len(set(filter(None, names))) < sum(map(bool, names)) or not all(map(str.isprintable, names)):
        raise refused("it names one number or more, each once")
    if not any(map(str.strip, texts)) or any(not one for one in texts[1:-1]):
        raise refused("text stands beside and between numbers")
    expression = r"(?<!\w)" if texts[0][:1].isalnum() else "" if texts[0] else r"(?<![\w.,])"
    for number, one in enumerate(texts):
        expression += (_NUMBER + _end_of_number(one) if number else "") + _literal(one, before=number < len(names))
    return re.compile(expression), tuple(names)


def _literal(text: str, *, before: bool) -> str:
    """Text as a regular expression, blanks before a number (`before`) being optional."""
    words = r"\s++".join(re.escape(word) for word in text.split())
    blanks = (r"\s++" if text[:1].isspace() and words else "", r"\s*+" if before or text[-1:].isspace() else "")
    return blanks[0] + words + blanks[1]


def _end_of_number(text: str) -> str:
    """What may not follow a number before this text: more of it."""
    return "" if text[:1].isalnum() or text[:1] == "_" else r"(?!\w)" + ("" if text[:1] == "," else r"(?!,\d)")


def check_program(
    program: Program | None, base: Recipe, fixed: Iterable[str], arms: Sequence[Arm], num_seeds: int, place: str
) -> None:
    """A setting that is given and that no program reads is a dead knob; one that is read must have a value.

    Raises: StudyError naming the first of them.
    """
    if program is None:
        for name in (f"{SCRIPT}{name}" for arm in arms for name in arm.recipe.script):
            raise StudyError(
                f'{place} "{name}": given; the built-in trainer reads no settings under {SCRIPT[:-1]}; '
                "add [trainer] with a command that reads it, or leave it out"
            )
        return
    place = f"{place} [trainer]"
    for arm in arms:
        flat = {**dict.fromkeys(PLACES, ""), **arm.recipe.flat()}
        for name in sorted(program.placeholders):
            if flat.get(name) is None:
                where = f'in arm "{arm.name}"; give it in [set] or [vary]' if name not in flat else _no_value(name)
                raise StudyError(f'{place} "{{{name}}}": has no value {where}')
    varied = dict.fromkeys(name for arm in arms for name in arm.settings)
    own = (f"{SCRIPT}{name}" for name in base.script)
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
