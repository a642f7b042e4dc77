"""The files of a program that decide its numbers: what its command names, and what those files import or name.

Read as text and never run. Found are: the files that words of the command name; the Python modules that a script
imports, wherever in its code, and those modules' own, as far as they lie with the program (beside it, in a folder that
PYTHONPATH or `sys.path` names, or in its repository) and not among what is installed; and the scripts and
configurations that a script names in a text of its own, as wrappers do. Not found is what a program makes up while it
runs, and data: the patterns of `files` add those.
"""

import ast
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

MOST_FILES = 10_000
MOST_BYTES = 2**20
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
        if about.st_size <= MOST_BYTES:
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
            text = file.read(MOST_BYTES)
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
