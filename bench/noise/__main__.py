"""python -m bench.noise: read the runs out of a store into the table, then write the page."""

import argparse
import sys
from pathlib import Path

from bench.noise.page import page
from bench.noise.table import STUDIES, read_store, read_table, write_table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.noise", description=__doc__)
    parser.add_argument("--store", type=Path, help="where the studies ran; without it the table stays as it is")
    parser.add_argument("--out", type=Path, help="the page to write (docs/noise.md)")
    given = parser.parse_args(arguments)
    if given.store is not None:
        rows = read_store(given.store)
        if not rows:
            print(f"{given.store}: no finished study of {', '.join(STUDIES)}; the table is left", file=sys.stderr)
            return 1
        write_table(rows)
        print(f"{len(rows)} runs in the table", file=sys.stderr)
    if given.out is not None:
        given.out.write_text(page(read_table()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
