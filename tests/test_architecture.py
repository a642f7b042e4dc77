"""docs/architecture.md names every file of the package and no other. As a command: writes its list of files anew."""

import ast
import re
from pathlib import Path

from tests.test_floors import FLOORS, PACKAGE, REPOSITORY, SOURCES

PAGE = REPOSITORY / "docs" / "architecture.md"
BEGIN, END = "<!-- files: written by make docs -->\n", "<!-- files: end -->\n"
LINK = re.compile(r"\]\(\.\./src/blueberry/([\w/.-]+)\)")


def test_every_file_is_named_and_every_file_that_is_named_exists():
    text = PAGE.read_text(encoding="utf-8")
    named = set(LINK.findall(text))
    sources = {_name(path) for path in SOURCES}
    assert sources - named == set(), "run make docs"
    assert {name for name in named if not (PACKAGE / name).exists()} == set(), "run make docs, and mend the text"


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def files() -> str:
    """Floor by floor from the top, room by room: a line a file, the first sentence of its docstring."""
    parts = []
    for floor in sorted(set(FLOORS.values()), reverse=True):
        lines = [f"### Floor {floor}", ""]
        for room in (room for room in FLOORS if FLOORS[room] == floor):
            folder = PACKAGE / room
            inside = sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]
            inside.sort(key=lambda path: path.name != "__init__.py")
            lines += [f"- [{_name(path)}](../src/blueberry/{_name(path)}): {_sentence(path)}" for path in inside]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _sentence(path: Path) -> str:
    told = " ".join(
        (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "Empty.").split("\n\n")[0].split()
    )
    return re.split(r"(?<=[a-z)\]`][.?]) (?=[A-Z`])", told)[0].rstrip(":")


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + files() + "\n" + END + rest.partition(END)[2], encoding="utf-8")
