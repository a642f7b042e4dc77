"""python -m bench.sweep: replay methods on surfaces, then write the page and the picture.

Replays are added to those of `results.json`, which is written after every few: it may be stopped and goes on. With
--store it first makes the tables from a store in which `pico-rates.toml` and `pico-changes.toml` have run. Methods of
Optuna and Ray are left out where these are not installed (`pip install optuna "ray[tune]"`).
"""

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.sweep import ablations, schedules, tables
from bench.sweep.methods import METHODS, PEERS
from bench.sweep.page import page, picture
from bench.sweep.replays import Row, go_on
from bench.sweep.surfaces import surfaces

RESULTS = Path(__file__).parent / "results.json"
AT_A_TIME = 50
"""Replays of a method and surface before the next ones' turn, so that what is there so far is of all of them."""
SLOW = {"race": 10}
"""Replays of these are so many times fewer."""


def measure(replays: int, path: Path = RESULTS, only: Sequence[str] = ()) -> None:
    """Every method on every surface, or those whose names hold one of the words."""
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": []}
    rows = {(row["surface"], row["method"]): Row(**row) for row in results["rows"]}
    usable = [name for name in METHODS if name not in PEERS or importlib.util.find_spec(PEERS[name])]
    tasks = [(surface, method) for surface in surfaces() for method in usable]
    tasks = [one for one in tasks if not only or any(word in f"{one[0].name} | {one[1]}" for word in only)]
    for part in range(AT_A_TIME, replays + AT_A_TIME, AT_A_TIME):
        for surface, method in tasks:
            row = rows.setdefault((surface.name, method), Row(surface.name, method, surface.is_valley, surface.sd_nats))
            until = -(-min(part, replays) // SLOW.get(method, 1))
            if row.replays < until:
                go_on(row, surface, until)
                results["rows"] = [one.to_dict() for one in rows.values()]
                _write(results, path)
        print(f"{min(part, replays)} of {replays} replays", file=sys.stderr)
    results["ablations"] = [
        ablations.replay(truth, design, min(replays, 1000))
        for truth in ablations.truths()
        for design in ablations.DESIGNS
    ]
    results["schedules"] = schedules.measure()
    _write(results, path)


def _write(results: dict[str, Any], path: Path) -> None:
    parts = []
    for name in ("rows", "ablations", "schedules"):
        lines = ",\n".join(json.dumps(row) for row in results.get(name, []))
        parts.append(f'"{name}": [\n{lines}\n]')
    whole = path.with_suffix(".new")
    whole.write_text(f"{{{', '.join(parts)}}}\n")
    whole.replace(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__)
    parser.add_argument("--store", type=Path, help="make the tables from the runs in this store; else they stay")
    parser.add_argument(
        "--replays", type=int, default=0, help="go on to so many a method and surface (slow ones fewer)"
    )
    parser.add_argument("--only", nargs="*", default=(), metavar="WORD", help="of surfaces and methods that hold one")
    parser.add_argument("--out", type=Path, help="the page to write (docs/efficiency.md)")
    given = parser.parse_args(arguments)
    if given.store is not None:
        tables.make(given.store)
    if given.replays:
        measure(given.replays, only=given.only)
    if given.out is not None:
        results = json.loads(RESULTS.read_text())
        rows = [Row(**row) for row in results["rows"]]
        given.out.write_text(page(rows, results["ablations"], results["schedules"]))
        picture(rows, given.out.parent / "images" / "efficiency.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
