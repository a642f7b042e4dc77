"""The golden files: each a name and a text that is made anew."""

import json
import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.golden import entry
from tests.golden.reports import REPORTS
from tests.golden.studies import SHORT, STUDIES
from tests.golden.tables import TABLES

FOLDER = Path(__file__).parent
WIDTH = 110
DIGITS = 7
"""Significant ones of a number: what another order of one sum may change is not shown."""


def names() -> list[str]:
    return [*(f"studies/{name}" for name in STUDIES), *(f"tables/{name}" for name in TABLES), "doctor"]


def needs(name: str) -> str:
    """The extra without which it cannot be made; "" for most."""
    folder, _, key = name.partition("/")
    given: dict[str, Any] = {"studies": STUDIES, "tables": TABLES}.get(folder, {})
    extra = given[key].needs if key else ""
    return extra if extra and find_spec(extra) is None else ""


def make(name: str) -> Iterator[tuple[str, str]]:
    """File name and text of each file of a case."""
    with TemporaryDirectory() as folder:
        for file, text in _make(name, Path(folder)):
            yield file, text.replace(folder, "FOLDER")


def _make(name: str, folder: Path) -> Iterator[tuple[str, str]]:
    kind, _, key = name.partition("/")
    if kind == "doctor":
        yield "doctor.txt", "".join(_findings(called, texts, folder) for called, texts in REPORTS.items())
        return
    if kind == "studies":
        planted = STUDIES[key]
        changes = planted.changes if "across" in planted.changes else {"set": SHORT, **planted.changes}
        answer = entry.study(planted.kind, changes, planted.truth, folder)
        document: Any = answer.insights
    else:
        answer = entry.table(TABLES[key].write(folder), TABLES[key].asked)
        document = {"notes": answer.notes, "insights": answer.insights}
    yield f"{name}.json", pretty(rounded(document)) + "\n"
    yield f"{name}.md", answer.report


def _findings(called: str, texts: tuple[str, ...], folder: Path) -> str:
    """What the doctor says of reports that are given to it together, under a heading."""
    paths = [folder / f"{called.replace(' ', '-')}-{number}.md" for number in range(1, len(texts) + 1)]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    return f"# {called}\n{lines(entry.doctor(paths))}\n"


def documents(folder: Path) -> str:
    """What the doctor says of the published reports and their data in `folder`: seeds/*.md and data/*.json."""
    data = ["ablation.json", "deepseek_lr_search.json", "lr_sweep_26.json", "schedules.json"]
    return lines(entry.doctor([*sorted((folder / "seeds").glob("*.md")), *(folder / "data" / name for name in data)]))


def lines(findings: list[tuple[str, str, str]]) -> str:
    return "".join(f"{severity} {audit}: {message}\n" for audit, severity, message in findings)


def rounded(value: Any) -> Any:
    """With as many digits as stay when a sum is added up in another order."""
    if isinstance(value, float) and math.isfinite(value):
        return 0.0 if abs(value) < 1e-12 else float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: rounded(held) for name, held in value.items()}
    return [rounded(held) for held in value] if isinstance(value, (list, tuple)) else value


def pretty(value: Any, indent: int = 0) -> str:
    """JSON with what fits a line on one line, and keys in order of the alphabet: their order means nothing."""
    whole = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if len(whole) + indent <= WIDTH or not isinstance(value, (dict, list)):
        return whole
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        held = [
            f"{pad}{json.dumps(name, ensure_ascii=False)}: {pretty(value[name], indent + 1)}" for name in sorted(value)
        ]
        return "{\n" + ",\n".join(held) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + pretty(one, indent + 1) for one in value) + "\n" + " " * indent + "]"
