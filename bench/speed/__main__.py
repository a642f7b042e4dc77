"""python -m bench.speed: measure, and write the tables between the two marks of a page."""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from blueberry.bench.table import measured

BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("sizes", nargs="*", metavar="SIZE", help="pico and nano, or others")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", type=Path, help="where prepared text is kept; without it in a temporary folder")
    parser.add_argument("--out", type=Path, help="the page to write (docs/speed.md); without it, standard output")
    given = parser.parse_args(arguments)
    with TemporaryDirectory() as passing:
        folder = given.store or Path(passing)
        _, found = measured(given.sizes, folder, rounds=given.rounds, tell=lambda line: print(line, file=sys.stderr))
    if given.out is None:
        print(found)
        return 0
    before, _, rest = given.out.read_text(encoding="utf-8").partition(BEGIN)
    given.out.write_text(f"{before}{BEGIN}\n{found}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
