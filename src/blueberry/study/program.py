"""The section [trainer] of a study file: any program as the trainer, what it is told of a run, and what it is known by.

It is known by its command and the content of the files that decide its numbers. They are read as text and never run.
Found are: the files that words of the command name; the Python modules that a script imports, wherever in its code,
and those modules' own, as far as they lie with the program (beside it, in a folder that PYTHONPATH or `sys.path` names,
or in its repository) and not among what is installed; and the scripts and configurations that a script names in a text
of its own, as wrappers do. Not found is what a program makes up while it runs, and data: the patterns of `files` add
those.
"""

import ast
import hashlib
import itertools
import math
import operator
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePath
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from blueberry.errors import StudyError, did_you_mean
from blueberry.files import canonical_json, digest
from blueberry.recipe import LENGTHS, SCRIPT, Recipe, is_script_setting, setting_names
from blueberry.records import is_number
from blueberry.settings import Section, setting

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
        return frozenset[str]().union(*map(_names, (*self.command, *self.environment.values())))

    def reads(self, name: str) -> bool:
        """Whether the program is told a setting."""
        return RECIPE in self.placeholders or name in self.placeholders

    @property
    def is_told_its_length(self) -> bool:
        return any(self.reads(length) for length in LENGTHS)

    def words(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """The command for a run whose settings and places have these values. Raises: ValueError."""
        return tuple(filled(word, values) for word in self.command)

    def known_words(self, places: Mapping[str, Any], recipes: Iterable[Recipe]) -> Iterator[tuple[str, ...]]:
        """Of each recipe's command the first words, up to one that is known only when it runs. Raises: ValueError."""
        for recipe in recipes:
            values, known = {**recipe.flat(), **places}, list[str]()
            for word in self.command:
                if not _names(word) <= values.keys():
                    break
                known.append(filled(word, values))
            yield tuple(known)

    def variables(self, values: Mapping[str, Any]) -> dict[str, str]:
        return {name: filled(value, values) for name, value in self.environment.items()}


def filled(word: str, values: Mapping[str, Any]) -> str:
    """A word with its placeholders replaced; {{ and }} are braces. Raises: ValueError, "{expression}: rule; remedy"."""

    def replaced(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        value = _expression(match[1]).value(values)
        return str(value).lower() if isinstance(value, bool) else str(value)

    return PLACEHOLDER.sub(replaced, word)


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


def _names(word: str) -> frozenset[str]:
    """Of what its placeholders read."""
    return frozenset(name for text in _placeholders(word) for name in _expression(text).names)


class _Expression:
    """What stands in a placeholder: a name, or arithmetic with names and numbers."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self._compute: Callable[[Mapping[str, Any]], Any] | None = None
        self._shown = "{" + self.text[:60] + "}"
        if self.text in known_names() or is_script_setting(self.text):
            self.names = frozenset((self.text,))
            return
        variables: list[str] = []
        named = _NAME.sub(lambda match: self._variable(match, variables), self.text)
        try:
            assert len(self.text) <= MOST_CHARACTERS
            self._compute = _compiled(ast.parse(named, mode="eval").body)
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

    def value(self, values: Mapping[str, Any]) -> Any:
        """Raises: ValueError, "{expression}: rule; remedy"."""
        if self._compute is None:
            return values[self.text]
        numbers = {f"v{place}": values[name] for place, name in enumerate(self._variables)}
        for name, number in zip(self._variables, numbers.values(), strict=True):
            if not is_number(number):
                raise ValueError(f"{self._shown}: {name} is {number!r:.60}, no number; leave the arithmetic out")
        try:
            result = self._compute(numbers)
            if not abs(result) <= 1e300:
                raise OverflowError
            return result if isinstance(result, int) else float(f"{result:.15g}")
        except (ArithmeticError, ValueError, TypeError) as broken:
            given = ", ".join(f"{name} = {values[name]!r}" for name in self._variables)
            why = "divides by zero" if isinstance(broken, ZeroDivisionError) else "has no value"
            raise ValueError(f"{self._shown}: it {why} where {given}; mend it") from None


_expression = lru_cache(maxsize=1000)(_Expression)


def _compiled(node: ast.expr) -> Callable[[Mapping[str, Any]], Any]:
    """Arithmetic as a function of numbers by name. Raises: ValueError if it is anything else."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return lambda numbers: value
        case ast.Name(id=name):
            return lambda numbers: numbers[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            function, operands = _OPERATORS[type(op)], [left, right]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            function, operands = _OPERATORS[type(op)], [operand]
        case ast.Call(func=ast.Name(id=name), args=[_, *_] as operands, keywords=[]) if name in _FUNCTIONS:
            function = _FUNCTIONS[name]
        case _:
            raise ValueError(ast.dump(node))
    computed = [_compiled(one) for one in operands]
    return lambda numbers: function(*(compute(numbers) for compute in computed))


@lru_cache(maxsize=1)
def known_names() -> frozenset[str]:
    return frozenset(setting_names() - {f"{SCRIPT}NAME"} | {*PLACES})


WHAT = ("loss", "bits_per_byte", "accuracy", "tokens")
"""After val_ and test_. Every number under another name is kept as it is, in `RunResult.extra`."""
_OWN = {"update", "train_loss", *(f"{which}_{what}" for which in ("val", "test") for what in WHAT)}


def own_name(name: str) -> str:
    """`val_loss` of `eval_loss`, `val/loss`, `validation.loss`; any other name as it is."""
    folded = re.sub(r"^(eval|valid|validation)_", "val_", re.sub(r"[/. ]", "_", name.lower()))
    return folded if folded in _OWN else name


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


# --- The files that decide its numbers ---

MOST_FILES = 10_000
MOST_SCRIPT_BYTES = 2**20
"""Of a script that is read; a longer one counts by its content alone."""
NAMED_SUFFIXES = (
    ".py", ".sh", ".bash", ".zsh", ".toml", ".yaml", ".yml", ".ini", ".cfg",
    ".c", ".cpp", ".cu", ".h", ".jl", ".r", ".lua",
)  # fmt: skip
"""Of files that count where a script's text names them: code and configuration, which no run writes. (A .json, .csv or
.txt may be what the last run left.)"""
REPOSITORY_MARKS = (".git", "pyproject.toml", "setup.py")
MOST_PARENTS = 5
_WORD = re.compile(r"[\w.+/-]{1,500}")
_MODULE_OPTION = re.compile(r"(?:^|\s)-m[\s\"',]+([A-Za-z_][\w.]*)")
_LOADERS = ("import_module", "__import__", "run_module")


@dataclass(frozen=True)
class Mentions:
    """What one file speaks of."""

    modules: frozenset[str] = frozenset()
    """Dotted; relative ones begin with their dots."""
    words: frozenset[str] = frozenset()
    """That may name files."""
    extends_path: bool = False
    """It changes where modules are looked for; then its words may name folders of them."""


def program_files(words: Sequence[str], root: Path, paths: Sequence[Path] = ()) -> list[Path]:
    """The files of a command, in order of discovery, at most MOST_FILES + 1.

    `root` is the folder that its words are relative to, `paths` are further folders of modules.
    """
    found: dict[Path, None] = {}
    folders = [root, root / "src", *paths]
    left = list[Path]()
    left += _of(_mentions_of(" ".join(words), is_python=False), root, root, folders)
    for word in words:
        if (path := _file(root, word)) is not None:
            left.append(path)
        elif not word.startswith("-"):
            left += _of(_mentions_of(word), root, root, folders)
    while left and len(found) <= MOST_FILES:
        path = left.pop(0)
        if path in found:
            continue
        found[path] = None
        about = path.stat()
        if about.st_size <= MOST_SCRIPT_BYTES:
            mentions = _mentions(str(path), about.st_size, about.st_mtime_ns)
            left += _of(mentions, path.parent, root, [path.parent, *folders, *_repository(path.parent)])
    return [*found]


def _of(mentions: Mentions, folder: Path, root: Path, folders: Sequence[Path]) -> Iterator[Path]:
    """The files that are mentioned by a file in `folder`."""
    if mentions.extends_path:
        named = (base / word.strip("/") for word in sorted(mentions.words) for base in (folder, root))
        folders = [*folders, *(one for one in named if os.path.isdir(one)), folder.parent]
    for module in sorted(mentions.modules):
        yield from _module(module, folder, folders)
    for word in sorted(mentions.words):
        if word.lower().endswith(NAMED_SUFFIXES):
            found = (_file(base, one) for base in dict.fromkeys((folder, root)) for one in (word, word.lstrip("/")))
            yield from (path for path in found if path is not None)


def _module(name: str, folder: Path, folders: Sequence[Path]) -> Iterator[Path]:
    """A module's file and its packages'; what is imported from it may be one of its names, or a module in turn."""
    level = len(name) - len(name.lstrip("."))
    parts = [part for part in name[level:].split(".") if part]
    bases = folders if not level else [folder, *folder.parents][level - 1 : level]
    for base in bases:
        found = list[Path]()
        for number in range(len(parts)):
            place = base.joinpath(*parts[: number + 1])
            found += [
                one for one in (place.with_name(f"{place.name}.py"), place / "__init__.py") if os.path.isfile(one)
            ][:1]
            if number == len(parts) - 1 and os.path.isfile(place / "__main__.py"):
                found.append(place / "__main__.py")
        if found or (level and not parts):
            yield from (Path(os.path.realpath(path)) for path in found)
            return


@lru_cache(maxsize=4 * MOST_FILES)
def _mentions(path: str, size: int, changed_ns: int) -> Mentions:
    """Read once, unless size or time of change say that it is another."""
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_SCRIPT_BYTES)
    except OSError:
        return Mentions()
    if b"\0" in text:
        return Mentions()
    return _mentions_of(text.decode(errors="replace"), is_python=path.endswith(".py") or b"python" in text[:80])


def _mentions_of(text: str, *, is_python: bool = True) -> Mentions:
    """Of a text as Python, where it is, or else as a script of another kind."""
    try:
        tree = ast.parse(text) if is_python else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if tree is None:
        return Mentions(frozenset(_MODULE_OPTION.findall(text)), frozenset(_WORD.findall(text)))
    modules, words = set[str](), set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                modules |= {alias.name for alias in names}
            case ast.ImportFrom(module=module, names=names, level=level):
                of = "." * level + (module or "")
                modules |= {of, *(f"{of}.{alias.name}" if module else f"{of}{alias.name}" for alias in names)}
            case ast.Call(
                func=ast.Name(id=name) | ast.Attribute(attr=name), args=[ast.Constant(value=str(module)), *_]
            ) if name in _LOADERS:
                modules.add(module)
            case ast.Constant(value=str(value)) if len(value) <= 10_000:
                words |= {value[:500], *_WORD.findall(value)}
                modules |= set(_MODULE_OPTION.findall(value))
            case ast.List(elts=items) | ast.Tuple(elts=items):
                texts = [item.value if isinstance(item, ast.Constant) else None for item in items]
                modules |= {str(after) for option, after in itertools.pairwise(texts) if option == "-m" and after}
            case _:
                pass
    return Mentions(frozenset(modules), frozenset(words), "sys.path" in text)


@lru_cache(maxsize=1000)
def _repository(folder: Path) -> tuple[Path, ...]:
    """Where a folder's repository has its modules."""
    for parent in (folder, *folder.parents[:MOST_PARENTS]):
        if any(os.path.exists(parent / mark) for mark in REPOSITORY_MARKS):
            return parent, parent / "src"
    return ()


def _file(folder: Path, word: str) -> Path | None:
    """The file that a word names, without links; None if it names none."""
    path = folder / word
    return Path(os.path.realpath(path)) if os.path.isfile(path) else None


def digest_of(program: Program, beside: Path, words: Sequence[str]) -> str:
    """Of the command, its environment, and the content of the files that decide its numbers."""
    cwd = working_folder(program, beside)
    paths = [
        cwd / path
        for path in program.environment.get("PYTHONPATH", "").replace("{here}", str(beside)).split(":")
        if path
    ]
    found = set(program_files(words, cwd, paths))
    for pattern in program.files:
        try:
            matching = {path.resolve() for path in beside.glob(pattern) if path.is_file()}
        except (ValueError, NotImplementedError, OSError):
            matching = set[Path]()
        if not matching:
            rule = "it matches no file; patterns are relative to the study file; mend it"
            raise StudyError(f'{beside} [trainer] "files": {pattern!r}; {rule}')
        found |= matching
    if len(found) > MOST_FILES:
        raise StudyError(
            f'{beside} [trainer] "files": {len(found)} files; a program has at most {MOST_FILES:,} that decide its '
            "numbers; name fewer"
        )
    files = sorted((os.path.relpath(path, beside), _file_digest(str(path), *_stamp(path))) for path in found)
    return digest("blueberry/command/2", canonical_json([program.command, sorted(program.environment.items()), files]))


def working_folder(program: Program, beside: Path) -> Path:
    """What the words of the command are relative to. Raises: StudyError."""
    folder = beside / (program.cwd or "")
    if not os.path.isdir(folder):
        raise StudyError(
            f'{beside} [trainer] "cwd": {program.cwd!r}; no such folder; it is relative to the study file; mend it'
        )
    return folder


def _stamp(path: Path) -> tuple[int, int]:
    seen = path.stat()
    return seen.st_size, seen.st_mtime_ns


@lru_cache(maxsize=MOST_FILES)
def _file_digest(path: str, size: int, changed_ns: int) -> str:
    """Read once, unless size or time of change say that it is another."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
