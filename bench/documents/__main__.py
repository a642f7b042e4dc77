"""python -m bench.documents: judge the documents' small studies as far as a store has them, and write the page."""

import argparse
import json
import sys
from pathlib import Path

from bench.documents.measured import line, read
from bench.documents.page import page
from blueberry.study.spec import default_store

HERE = Path(__file__).parent
DOCTOR = HERE / "doctor.json"
STUDIES = HERE.parent.parent / "studies" / "documents"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.documents", description=__doc__)
    parser.add_argument("--store", type=Path, default=default_store(), help="where the studies ran")
    parser.add_argument("--documents", type=Path, help="a folder of the documents and their data, for the doctor")
    parser.add_argument("--out", type=Path, required=True, help="the page to write (docs/documents.md)")
    given = parser.parse_args(arguments)
    if given.documents is not None:
        DOCTOR.write_text(json.dumps({"audits": _examined(given.documents)}, indent=1) + "\n")
    measured = read(STUDIES, given.store)
    given.out.write_text(page(measured, json.loads(DOCTOR.read_text())["audits"], line(given.store)))
    missing = [name for name, found in measured.items() if found is None]
    print(f"{given.out}; not yet measured: {', '.join(missing) or 'nothing'}", file=sys.stderr)
    return 0


def _examined(folder: Path) -> list[dict[str, str]]:
    """What the doctor says of the documents, in one call, so that they are held against each other."""
    from blueberry.analysis import checkup

    paths = sorted([*folder.rglob("00*.md"), *folder.rglob("*.json")])
    found = checkup([path for path in paths if "insights" not in path.name])
    return [{"audit": one.audit, "severity": one.severity, "message": one.message} for one in found.audits]


if __name__ == "__main__":
    sys.exit(main())
