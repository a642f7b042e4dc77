"""python -m bench.speed: measure, and write the tables between the two marks of a page."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from blueberry.bench import measured
from blueberry.bench.measure import SIZES

BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
BEFORE = "86f7c6a"
"""The commit with this command that is before what it led to."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("sizes", nargs="*", metavar="SIZE", help=f"some of {', '.join(SIZES)}, which are the default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", type=Path, help="where prepared text is kept; without it in a temporary folder")
    parser.add_argument("--before", metavar="COMMIT", nargs="?", const=BEFORE, help=f"measure it too; {BEFORE} if bare")
    parser.add_argument("--out", type=Path, help="the page to write (docs/speed.md); without it, standard output")
    given = parser.parse_args(arguments)
    sizes = given.sizes or list(SIZES)
    with TemporaryDirectory() as passing:
        folder = given.store or Path(passing)
        _, found = measured(sizes, folder, rounds=given.rounds, tell=lambda line: print(line, file=sys.stderr))
    if given.before:
        found += f"\n\nThe same at commit {given.before}:\n\n{_at(given.before, sizes, given.rounds)}"
    if given.out is None:
        print(found)
        return 0
    before, _, rest = given.out.read_text(encoding="utf-8").partition(BEGIN)
    given.out.write_text(f"{before}{BEGIN}\n{found}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0


def _at(commit: str, sizes: list[str], rounds: int) -> str:
    """The tables of a commit's own command and trainer, on this machine."""
    with TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit], stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        command = [sys.executable, "-m", "bench.speed", *sizes, "--rounds", str(rounds)]
        environment = {**os.environ, "PYTHONPATH": str(Path(folder) / "src")}
        said = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout
    return said.partition("\n\n")[2].strip()


if __name__ == "__main__":
    sys.exit(main())
