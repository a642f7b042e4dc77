"""The house: imports go down the floors only, torch lives in lm, help and planning never load it.

As a command, `python -m tests.test_floors`: how many files and lines each floor and each room has.
"""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import blueberry

PACKAGE = Path(blueberry.__file__).parent
REPOSITORY = PACKAGE.parent.parent

FLOORS = {
    "errors": 0, "files": 0, "settings": 0, "architecture": 0, "schedules": 0, "recipe": 0, "records": 0,
    "curves": 0,
    "text": 1, "stats": 1, "tables": 1, "sinks": 1,
    "lm": 2, "study": 2,
    "judge": 3, "bench": 3,
    "proofread": 4,
    "report": 4,
    "analysis": 5, "api": 5, "promotions": 5, "cli": 5, "__main__": 5, "__init__": 5,
}  # fmt: skip
MOST_LINES = 500
STRANGERS = [
    ("lm", "study"),
    ("lm", "stats"),
    ("study", "lm"),
    ("stats", "text"),
    ("text", "stats"),
]
THIRD_PARTY = {
    "torch": {"lm", "bench"},
    "safetensors": {"lm"},
    "altair": {"report"},
    "vl_convert": {"report"},
    "jinja2": {"report"},
    "scipy": {"stats", "judge"},
    "sqlite3": {"study", "tables"},
    "optuna": {"study"},
    "typer": {"cli", "__main__"},
    "rich": {"cli"},
    "tokenizers": {"text"},
    "tiktoken": {"text"},
    "pyarrow": {"text"},
    "datasets": {"text"},
    "huggingface_hub": {"text"},
    "wandb": {"tables", "sinks"},
    "yaml": {"tables"},
    "tensorboard": {"tables", "sinks"},
    "mlflow": {"sinks"},
    "ray": {"study"},
}


def _room(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All of them, those within others too; imports are statements, and looking through expressions takes long."""
    for node in body:
        yield node
        for inside in ("body", "orelse", "handlers", "finalbody", "cases"):
            yield from _statements(getattr(node, inside, ()))


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in _statements(_parsed(path).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            assert node.module is not None
            if node.module == "blueberry":
                found |= {f"blueberry.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


def broken_rules(path: Path, imports: set[str]) -> list[str]:
    room, broken = _room(path), []
    for name in sorted(imports):
        top, _, rest = name.partition(".")
        if top in THIRD_PARTY and room not in THIRD_PARTY[top]:
            broken.append(f"{room} may not import {top}")
        if top != "blueberry" or not rest:
            continue
        other = rest.partition(".")[0]
        if other == room:
            continue
        if FLOORS[other] > FLOORS[room] or (FLOORS[other] == FLOORS[room] > 0 and FLOORS[room] < 5):
            broken.append(f"{room} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[other]})")
        if (room, other) in STRANGERS:
            broken.append(f"{room} imports {other}")
    return broken


SOURCES = sorted(PACKAGE.rglob("*.py"))
_KNOWN = frozenset(SOURCES)


def test_every_file_has_a_floor():
    assert {_room(path) for path in SOURCES} == set(FLOORS)


def test_imports_go_down_only():
    assert {str(path): broken for path in SOURCES if (broken := broken_rules(path, _imports(path)))} == {}


@pytest.mark.parametrize(
    ("room", "name"),
    [("study/plan.py", "torch"), ("stats/differences.py", "blueberry.study.plan"), ("lm/model.py", "blueberry.study.spec"),
     ("recipe.py", "blueberry.text"), ("judge/judging.py", "blueberry.report"), ("text/windows.py", "blueberry.stats.differences")],
)  # fmt: skip
def test_a_forbidden_import_would_be_seen(room, name):
    assert broken_rules(PACKAGE / room, {name})


def test_files_are_short_and_named_for_what_they_hold():
    assert [path for path in SOURCES if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES] == []
    assert not {path.stem for path in SOURCES} & {"utils", "common", "helpers", "manager"}


def _modules_after(*commands: str, first: str = "") -> set[str]:
    """What is loaded in a fresh interpreter once these commands have run in it, after a line of Python."""
    script = first + "".join(map(RUN.format, commands)) + "print('MODULES', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    return set(done.stdout.rpartition("MODULES ")[2].split())


RUN = """
import sys
from blueberry.__main__ import main
sys.argv = "blueberry {}".split()
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def _at_once(path: Path) -> set[Path]:
    """The package's files that a file imports as soon as it is imported itself, not in a function or for types alone."""
    found: set[Path] = set()
    waiting: list[ast.AST] = [_parsed(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.Import):
            found |= {file for alias in node.names if (file := _file(alias.name))}
        elif isinstance(node, ast.ImportFrom):
            files = [_file(f"{node.module}.{alias.name}") or _file(str(node.module)) for alias in node.names]
            found |= {file for file in files if file}
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found


def _file(module: str) -> Path | None:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one in _KNOWN), None)


def test_every_file_of_training_can_be_imported_first():
    """A circle of imports shows itself only to whoever comes in by the wrong door."""
    TopologicalSorter({path: _at_once(path) for path in SOURCES if _room(path) in ("lm", "text")}).prepare()


def test_what_is_imported_at_once_is_told_from_what_waits(tmp_path):
    first, second, third = (PACKAGE / "lm" / f"{name}.py" for name in ("model", "layers", "training"))
    text = (
        "from typing import TYPE_CHECKING\nimport blueberry.lm.model\nif TYPE_CHECKING:\n    from blueberry import lm\n"
        "try:\n    from blueberry.lm import layers\nfinally:\n    pass\n"
        "def f():\n    from blueberry.lm.training import Group\n"
        "class C:\n    from blueberry.lm.training import Group\n"
    )
    (tmp_path / "a.py").write_text(text)
    assert _at_once(tmp_path / "a.py") == {first, second, third}
    (tmp_path / "b.py").write_text(text.partition("class")[0])
    assert _at_once(tmp_path / "b.py") == {first, second}


def test_planning_never_loads_torch(prepared):
    """Nor does timing: that is a worker's, here one that is not waited for."""
    assert "torch" not in _modules_after(
        "run --help",
        "train recipes/moe-nano.toml --dry-run",
        f"plan studies/demo-lr-sweep.toml --store {prepared} --workers 1",
        f"doctor studies/demo-lr-sweep.toml --store {prepared}",
        first="from blueberry.study import placement\nplacement.PATIENCE_SECONDS = 0.2\n",
    )


def test_help_loads_next_to_nothing():
    modules = _modules_after("--help")
    assert not modules & {"torch", "numpy", "scipy", "pydantic", "altair", "tokenizers", "sqlite3"}


def sizes() -> str:
    files, lines = Counter[str](), Counter[str]()
    for path in SOURCES:
        files[_room(path)] += 1
        lines[_room(path)] += len(path.read_text(encoding="utf-8").splitlines())
    told = []
    for floor in sorted(set(FLOORS.values())):
        rooms = [room for room in FLOORS if FLOORS[room] == floor]
        counted = f"{sum(files[room] for room in rooms):4} files {sum(lines[room] for room in rooms):6,} lines"
        told.append(f"F{floor}{counted}: " + ", ".join(f"{room} {files[room]}/{lines[room]:,}" for room in rooms))
    return "\n".join([*told, f"all{files.total():3} files {lines.total():6,} lines"])


if __name__ == "__main__":
    print(sizes())
