"""python -m bench.sweep: replay methods on surfaces, then write the page and the picture.

With --store it first reads the runs of `pico-rates.toml` out of a store into `rates.csv`.
"""

import argparse
import csv
import json
import math
import sys
from collections.abc import Sequence
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import vl_convert
from scipy.stats import binomtest

from bench.sweep.methods import ALPHA, METHODS, MIN_EFFECT, Bill
from bench.sweep.surfaces import TABLE, Measured, Surface, surfaces
from blueberry.study.store import Store

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
RATE = "optimizer.muon.learning_rate"
SLOW = {"TPE, 13 runs": 4, "race": 10}
"""Replays of these are so many times fewer."""
Row = dict[str, Any]
INTRO = """\
Made by `python -m bench.sweep --out docs/efficiency.md`. Each method finds the best of the learning rates from 0.001 to
1 on studies whose truth is known: {valleys} simulated valleys and {others} surfaces that are none (correlation .3
between rates on one seed, the optimum anywhere in the middle three fifths of the range), and our own runs of a small
mixture of experts, 26 rates on ten seeds (`bench/sweep/rates.csv`, made by `blueberry run
bench/sweep/pico-rates.toml`), drawn with replacement. *Regret* is the expected loss of the rate that is chosen less
that of the best, in thousandths of a nat. *Runs* counts a diverged run as a third. min_effect is {min_effect} nats,
alpha {alpha}. Confirming runs on fresh seeds come on top of every method."""
CLAIMS = """\
`locate` stops when the rate that it recommends costs at most min_effect more than the best, at 95%. *Wrong*: claims
whose rate costs more. *Covered*: intervals of the optimum that hold it. *Within*: chosen rates within min_effect,
claimed or not."""
OTHERS = """\
A wrong claim of `locate, 13 runs` is a rate that costs more than it said at worst. On an edge the range of `locate`
extends itself; regret is against the best within the original range. Two valleys a factor of nine apart, of which one
is .004 nats deeper, look like one wide valley where the noise is as large as the ridge between them: few runs cannot
know, and the claim, which names its assumption, is wrong more often than it says.

Not measured: successive halving, which needs losses from the middle of runs that are comparable between rates, and
these tables have ends alone; schedules; ablations."""


def read_store(folder: Path) -> int:
    """The runs of the study `pico-rates`, one row each; returns how many."""
    with Store.open(folder, create=False) as store:
        (runs,) = [tuple(study.runs) for study in store.studies() if study.name == "pico-rates"]
        results = store.results(runs)
    rows = sorted(
        (result.recipe[RATE], result.recipe["seed"], result.metric("val_loss")) for result in results.values()
    )
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("learning_rate", "seed", "val_loss"))
        writer.writerows((f"{rate:g}", seed, f"{loss:.6f}") for rate, seed, loss in rows)
    return len(rows)


def replay(task: tuple[Surface | Measured, str, int]) -> Row:
    """One method on one surface, so many times; the same studies for every method."""
    surface, name, replays = task
    costs, regrets, claims, wrong, covered, ended = [], [], 0, 0, 0, dict[str, int]()
    for number in range(replays):
        loss, excess, optimum = surface.draw(np.random.default_rng([number, 1]))
        bill = Bill(loss, surface)
        rate, found = METHODS[name](bill, np.random.default_rng([number, 2]))
        costs.append(bill.cost)
        regrets.append(min(excess(rate), 1.0))
        if found is None:
            continue
        ended[found.ended] = ended.get(found.ended, 0) + 1
        if found.excess is not None and found.valley is not None:
            claims += 1
            wrong += excess(rate) > max(found.excess, 0.0) if found.ended != "located" else excess(rate) > MIN_EFFECT
            low, high = found.valley.interval
            covered += low <= optimum[1] and high >= optimum[0]
    return {
        "surface": surface.name,
        "method": name,
        "is_valley": surface.is_valley,
        "sd": surface.sd_nats,
        "replays": replays,
        "runs": float(np.mean(costs)),
        "most": float(np.quantile(costs, 0.9)),
        "regret": float(np.mean(regrets)),
        "error": float(np.std(regrets) / math.sqrt(replays)),
        "within": float(np.mean([regret <= MIN_EFFECT for regret in regrets])),
        "claims": claims,
        "wrong": int(wrong),
        "covered": int(covered),
        "ended": ended,
    }


def page(rows: Sequence[Row]) -> str:
    by = {(row["surface"], row["method"]): row for row in rows}
    names = list(dict.fromkeys(row["surface"] for row in rows))
    valleys = [name for name in names if by[name, "locate"]["is_valley"]]
    others = [name for name in names if name not in valleys]
    claims = [by[name, "locate"] for name in valleys]
    total, wrong = sum(row["claims"] for row in claims), sum(row["wrong"] for row in claims)
    covered = sum(row["covered"] for row in claims)
    worst = max(claims, key=lambda row: row["wrong"] / max(row["claims"], 1))
    failing = [
        row["surface"]
        for row in claims
        if binomtest(row["wrong"], max(row["claims"], 1), ALPHA, alternative="greater").pvalue < 0.01
    ]
    better = [n for n in valleys if by[n, "locate, 13 runs"]["regret"] <= by[n, "grid, 5 seeds"]["regret"]]
    behind = [n for n in valleys if n not in better]
    fewer = ", ".join(f"{name} {by[names[0], name]['replays']}" for name in SLOW)
    lines = [
        "# What finding the best rate costs, and how often it is wrong",
        "",
        INTRO.format(valleys=len(valleys) - 1, others=len(others), min_effect=MIN_EFFECT, alpha=ALPHA),
        "",
        "![Regret against runs](images/efficiency.png)",
        "",
        "## Valleys: expected regret by method",
        "",
        "| surface | " + " | ".join(METHODS) + " |",
        "|---|" + "--:|" * len(METHODS),
        *(
            f"| {name} | " + " | ".join(f"{1e3 * by[name, m]['regret']:.2f}" for m in METHODS) + " |"
            for name in valleys
        ),
        "| **runs, mean** | "
        + " | ".join(f"{np.mean([by[n, m]['runs'] for n in valleys]):.1f}" for m in METHODS)
        + " |",
        "",
        f"With 13 runs `locate` has no more regret than the 130 runs of 26 rates on five seeds on {len(better)} of "
        f"{len(valleys)} valleys" + (f"; not on {'; '.join(behind)}." if behind else "."),
        "",
        "## What it claims on valleys",
        "",
        CLAIMS,
        "",
        "| surface | runs | nine in ten at most | claims | wrong | covered | within | ended |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
        *(_claims(by[name, "locate"]) for name in valleys),
        "",
        f"In all {total:,} claims {wrong} are wrong ({wrong / total:.1%}; allowed 5%), most on {worst['surface']} "
        f"({worst['wrong'] / max(worst['claims'], 1):.1%}); {covered / total:.1%} of the intervals hold the optimum. "
        + ("No surface is significantly above 5% (binomial test at 1%)." if not failing else f"Above 5%: {failing}."),
        "",
        "## Where there is no smooth valley",
        "",
        "| surface | method | runs | regret | within | wrong claims | ended |",
        "|---|---|--:|--:|--:|--:|---|",
        *(
            f"| {name} | {m} | {by[name, m]['runs']:.1f} | {1e3 * by[name, m]['regret']:.2f} | "
            f"{by[name, m]['within']:.0%} | "
            f"{by[name, m]['wrong']} of {by[name, m]['claims']} | {_ended(by[name, m])} |"
            for name in others
            for m in ("grid, 1 seed", "grid, 5 seeds", "locate, 13 runs", "locate")
        ),
        "",
        OTHERS,
        "",
        f"Replays: {max(row['replays'] for row in rows)} a method and surface ({fewer}).",
        "",
    ]
    return "\n".join(lines)


def _claims(row: Row) -> str:
    claims = max(row["claims"], 1)
    return (
        f"| {row['surface']} | {row['runs']:.1f} | {row['most']:.0f} | {row['claims']} | {row['wrong']} | "
        f"{row['covered'] / claims:.1%} | {row['within']:.1%} | {_ended(row)} |"
    )


def _ended(row: Row) -> str:
    return ", ".join(f"{how} {num}" for how, num in sorted(row["ended"].items(), key=lambda item: -item[1]))


def picture(rows: Sequence[Row], path: Path) -> None:
    """Mean regret over the valleys against mean runs, one mark a method."""
    marks = []
    for name in METHODS:
        own = [row for row in rows if row["method"] == name and row["is_valley"]]
        regret, runs = (float(np.exp(np.mean([np.log(row[what]) for row in own]))) for what in ("regret", "runs"))
        marks.append({"method": name, "runs": runs, "regret": 1e3 * regret, "ours": name.startswith("locate")})
    base = alt.Chart(alt.InlineData(values=marks)).encode(
        x=alt.X(
            "runs:Q", scale=alt.Scale(type="log", domain=[10, 200]), title="runs (geometric mean over the valleys)"
        ),
        y=alt.Y("regret:Q", scale=alt.Scale(type="log"), title="regret, thousandths of a nat"),
        color=alt.Color("ours:N", scale=alt.Scale(range=["#7a8699", "#3b5bdb"]), legend=None),
    )
    chart = base.mark_point(size=90, filled=True, opacity=1) + base.mark_text(align="left", dx=9, fontSize=12).encode(
        text="method:N"
    )
    spec = chart.properties(width=620, height=340, background="white").to_dict()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(vl_convert.vegalite_to_png(spec, scale=2))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__)
    parser.add_argument("--store", type=Path, help="where pico-rates.toml ran; without it the table stays as it is")
    parser.add_argument("--replays", type=int, default=0, help="measure anew, so many times a method and surface")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="the page to write (docs/efficiency.md)")
    given = parser.parse_args(arguments)
    if given.store is not None:
        print(f"{read_store(given.store)} runs in the table", file=sys.stderr)
    if given.replays:
        tasks = [(s, m, max(given.replays // SLOW.get(m, 1), 20)) for s in surfaces() for m in METHODS]
        rows = []
        with Pool(given.workers) as pool:
            for row in pool.imap(replay, tasks):
                rows.append(row)
                print(f"{len(rows)}/{len(tasks)} {row['surface']}: {row['method']}", file=sys.stderr)
        RESULTS.write_text(json.dumps(rows, indent=0) + "\n")
    if given.out is not None:
        rows = json.loads(RESULTS.read_text())
        given.out.write_text(page(rows))
        picture(rows, given.out.parent / "images" / "efficiency.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
