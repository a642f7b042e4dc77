"""python -m bench.truth: measure what is missing, then write the page."""

import argparse
import os
import sys
from pathlib import Path

from bench.truth.cells import CELLS
from bench.truth.page import page, quoted
from bench.truth.results import Results

HERE = Path(__file__).parent


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.truth", description=__doc__)
    parser.add_argument("--replicates", type=int, default=10_000, help="simulated studies a cell (10000)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (as many as processors)")
    parser.add_argument("--only", default="", metavar="PREFIX", help="measure only cells whose name begins so")
    parser.add_argument("--again", metavar="PREFIX", help="forget what was measured of these cells first")
    parser.add_argument("--results", type=Path, default=HERE / "results.json", help="tallies, to resume from")
    parser.add_argument("--out", type=Path, help="the page to write (docs/truth.md)")
    parser.add_argument("--quote", type=Path, help="a page that has the table of loops too (docs/judge.md)")
    given = parser.parse_args(arguments)
    results = Results(given.results)
    if given.again is not None:
        results.forget(given.again)
    try:
        results.measure([cell for cell in CELLS if cell.name.startswith(given.only)], given.replicates, given.workers)
    except KeyboardInterrupt:
        print("interrupted; what is measured is kept", file=sys.stderr)
        return 130
    if given.out is not None:
        given.out.write_text(page(CELLS, results))
    if given.quote is not None:
        given.quote.write_text(quoted(given.quote.read_text(), CELLS, results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
