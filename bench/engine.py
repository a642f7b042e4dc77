"""What the engine costs beside training: synthetic runs, which take microseconds, through the real engine and store.

    python bench/engine.py [--runs 1000 10000] [--workers 0 2] [--json FILE]

Each case has a process of its own, so that its peak memory is its own. Figures: docs/speed.md.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from blueberry.study import engine
from blueberry.study.spec import Study
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic

SEEDS = 10
LANES = 8
UPDATES = 200
"""Recorded of each run, as in the demo's recipe."""
RECIPE = f"[train]\nupdates = {UPDATES}\n"
STUDY = """question = "What does the engine cost?"
base = "recipe.toml"
[vary]
"optimizer.muon.learning_rate" = {{ log = [0.001, 0.9], points = {points} }}
"model.dropout" = {{ linear = [0.0, 0.5], points = {other} }}
[seeds]
search = {seeds}
confirm = 0
max = {seeds}
"""


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000])
    given.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    given.add_argument("--json", type=Path)
    given.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    words = given.parse_args()
    if words.case:
        print(json.dumps(_case(int(words.case[0]), int(words.case[1]), Path(words.case[2]))))
        return
    found = [_cases(num_runs, workers) for num_runs in words.runs for workers in words.workers]
    if words.json:
        words.json.write_text(json.dumps(found, indent=2) + "\n")


def _cases(num_runs: int, workers: int) -> dict[str, float]:
    """A whole study, then the same again, then half of its results taken away."""
    with tempfile.TemporaryDirectory() as folder:
        whole = _apart(num_runs, workers, folder)
        again = _apart(num_runs, workers, folder)
        _forget_half(Path(folder))
        half = _apart(num_runs, workers, folder)
    found = {
        "runs": num_runs,
        "workers": workers,
        "ms_per_run": 1000 * whole["seconds"] / num_runs,
        "cpu_ms_per_run": 1000 * whole["cpu_seconds"] / num_runs,
        "again_seconds": again["seconds"],
        "again_cpu_seconds": again["cpu_seconds"],
        "half_seconds_before_first": half["first_seconds"],
        "peak_mb": whole["peak_mb"],
        "again_peak_mb": again["peak_mb"],
        "store_kb_per_run": whole["store_mb"] * 1000 / num_runs,
        "trained": whole["trained"],
        "trained_again": again["trained"],
        "trained_half": half["trained"],
    }
    print("  ".join(f"{name} {value:.4g}" for name, value in found.items()), flush=True)
    return found


def _apart(num_runs: int, workers: int, folder: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--case", str(num_runs), str(workers), folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def make_study(num_runs: int, folder: Path) -> Study:
    """A grid of two axes on ten seeds, `num_runs` in all."""
    num_arms = num_runs // SEEDS
    other = max(n for n in range(2, 11) if num_arms % n == 0)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "study.toml").write_text(STUDY.format(points=num_arms // other, other=other, seeds=SEEDS))
    return Study.load(folder / "study.toml")


def _case(num_runs: int, workers: int, folder: Path) -> dict[str, float]:
    study = make_study(num_runs, folder)
    assert len(study.arms) * SEEDS == num_runs, "the grid must have as many arms as are asked for"
    told: list[float] = []
    began, cpu_before = time.perf_counter(), _cpu_seconds()
    with Store.open(folder / "store") as store:
        outcome = engine.run(
            study,
            data_digest=Synthetic.data_digest,
            store=store,
            trainer=Synthetic(diverges_above=None),
            workers=workers,
            lanes=LANES,
            on_event=lambda seen: told.append(time.perf_counter() - began) if seen.running else None,
        )
    seconds, cpu_seconds = time.perf_counter() - began, _cpu_seconds() - cpu_before
    size = sum(path.stat().st_size for path in (folder / "store").glob("store.sqlite*"))
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "first_seconds": told[0] if told else seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "store_mb": size / 1e6,
        "trained": outcome.num_trained,
    }


def _cpu_seconds() -> float:
    """Of this process: what a busy machine does not change. Workers' is theirs."""
    return time.process_time()


def _forget_half(folder: Path) -> None:
    """As if the study had been killed half way."""
    import sqlite3

    with sqlite3.connect(folder / "store" / "store.sqlite") as sql:
        sql.execute("DELETE FROM results WHERE rowid % 2 = 0")
    sql.close()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
