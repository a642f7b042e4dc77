"""The page of efficiency and its picture, from what was counted."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import vl_convert
from scipy.stats import binomtest

from bench.sweep.methods import ALPHA, METHODS, MIN_EFFECT
from bench.sweep.replays import Row

GRID = "grid, 5 seeds"
BUDGET = "locate, 13 runs"
LEVEL = 0.05
"""Probability that any gate is called failed though all hold."""
RUN_TOKENS = 81_920
"""Of a run of our own table."""
TEXT = Path(__file__).parent / "page.md"
"""What stands around the tables: {NAME} is where each goes."""
By = dict[tuple[str, str], Row]


def page(rows: Sequence[Row], ablations: Sequence[dict[str, Any]], schedules: Sequence[dict[str, Any]]) -> str:
    by = {(row.surface, row.method): row for row in rows}
    valleys = list(dict.fromkeys(row.surface for row in rows if row.is_valley))
    others = list(dict.fromkeys(row.surface for row in rows if not row.is_valley))
    methods = [name for name in METHODS if all((surface, name) in by for surface in valleys)]
    parts = {
        "min_effect": f"{MIN_EFFECT:g}",
        "alpha": f"{ALPHA:g}",
        "methods": _table(
            "method | replays a surface | runs | tokens of our own surface, M | regret | regret, sd of a run | "
            "within min_effect | best of 26 given up | seconds of the method",
            [_method(by, valleys, name) for name in methods],
        ),
        "regrets": _table(
            "surface | " + " | ".join(methods),
            [[name, *(f"{1e3 * by[name, m].mean_regret:.2f}" for m in methods)] for name in valleys],
        ),
        "budget": _budget(by, valleys),
        "claims": _table(
            "surface | replays | runs | nine in ten at most | claims | wrong | covered | ended",
            [_claims(by[name, "locate"]) for name in valleys],
        ),
        "gates": _gates([by[name, "locate"] for name in valleys]),
        "others": _table(
            "surface | method | replays | runs | regret | within | wrong claims | "
            "of these not blocked by fresh seeds | ended",
            [_other(by[name, m]) for name in others for m in ("grid, 1 seed", GRID, BUDGET, "locate")],
        ),
        "recognised": _recognised([by[name, "locate"] for name in others]),
        "schedules": _table(
            "study | runs | updates' tokens alone, M | trained, M | share",
            [
                [
                    one["study"], f"{one['runs']}", f"{one['alone'] / 1e6:.1f}", f"{one['trained'] / 1e6:.1f}",
                    f"**{one['trained'] / one['alone']:.0%}**",
                ]
                for one in schedules
            ],
        ),
        "ablations": _table(
            "truth | design | replays | runs | of 320 | regret | 95% of regrets below | error of main effects | "
            "main effects shown | intervals cover | folded over",
            [_ablation(one) for one in ablations],
        ),
    }  # fmt: skip
    return TEXT.read_text().format(**parts)


def _table(head: str, rows: Sequence[Sequence[str]]) -> str:
    num = head.count(" | ") + 1
    lines = [f"| {head} |", "|---|" + "--:|" * (num - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _mean(rows: Sequence[Row], what: str) -> float:
    """Geometric, over surfaces: their regrets are of different sizes."""
    return float(np.exp(np.mean([math.log(max(getattr(row, what), 1e-6)) for row in rows])))


def _method(by: By, valleys: Sequence[str], name: str) -> list[str]:
    rows = [by[surface, name] for surface in valleys]
    own = next(row for row in rows if row.surface.startswith("pico"))
    in_sds = float(np.exp(np.mean([math.log(max(row.mean_regret, 1e-6) / row.sd) for row in rows])))
    num = sum(row.replays for row in rows)
    dropped = None if rows[0].dropped is None else sum(row.dropped or 0 for row in rows) / num
    return [
        name, f"{min(row.replays for row in rows)}", f"{np.mean([row.runs for row in rows]):.1f}",
        f"{own.runs * RUN_TOKENS / 1e6:.2f}", f"{1e3 * _mean(rows, 'mean_regret'):.2f}", f"{in_sds:.3f}",
        f"{sum(row.within for row in rows) / num:.1%}", "" if dropped is None else f"{dropped:.0%}",
        f"{sum(row.seconds for row in rows) / timed:.3f}" if (timed := sum(row.timed for row in rows)) else "",
    ]  # fmt: skip


def _budget(by: By, valleys: Sequence[str]) -> str:
    def beats(mine: float, surface: str) -> bool:
        return mine <= by[surface, GRID].mean_regret

    behind = [name for name in valleys if not beats(by[name, BUDGET].mean_regret, name)]
    sure = [name for name in valleys if by[name, BUDGET].sure >= by[name, BUDGET].replays / 2]
    short = [name for name in sure if not beats(by[name, BUDGET].sure_regret / by[name, BUDGET].sure, name)]
    free = [name for name in valleys if not beats(by[name, "locate"].mean_regret, name)]
    return (
        f"**With 13 runs, a tenth of the grid's 130, `locate` has no more regret than the least of 26 rates on five "
        f"seeds on {len(valleys) - len(behind)} of {len(valleys)} valleys**"
        + (f"; it has more on {_listing(by, behind, BUDGET)}. " if behind else ". ")
        + f"On {len(sure)} of them most searches of 13 runs end knowing that their rate is within min_effect; in these "
        + (f"the regret is larger than the grid's on {'; '.join(short)}. " if short else "the regret is never larger. ")
        + f"Without a budget (`locate`) it is no larger on {len(valleys) - len(free)} of {len(valleys)}"
        + (f", larger on {_listing(by, free, 'locate')}." if free else ".")
    )


def _listing(by: By, names: Sequence[str], method: str) -> str:
    return "; ".join(
        f"{name} ({1e3 * by[name, method].mean_regret:.2f} ± {1e3 * by[name, method].error:.2f} against "
        f"{1e3 * by[name, GRID].mean_regret:.2f} ± {1e3 * by[name, GRID].error:.2f})"
        for name in names
    )


def _claims(row: Row) -> list[str]:
    claims = max(row.claims, 1)
    return [
        row.surface, f"{row.replays}", f"{row.runs:.1f}", f"{row.most:.0f}", f"{row.claims}", f"{row.wrong}",
        f"{row.covered / claims:.1%}", _ended(row),
    ]  # fmt: skip


def _gates(rows: Sequence[Row]) -> str:
    """Wrong claims at most alpha and intervals that cover, on every valley, by one-sided binomial tests."""
    level = LEVEL / (2 * len(rows))
    failed = []
    for row in rows:
        claims = max(row.claims, 1)
        if binomtest(row.wrong, claims, ALPHA, "greater").pvalue < level:
            failed.append(f"wrong claims on {row.surface} ({row.wrong} of {row.claims})")
        if row.claims and binomtest(row.covered, claims, 1 - ALPHA, "less").pvalue < level:
            failed.append(f"intervals on {row.surface} ({row.covered} of {row.claims})")
    claims, wrong, covered = (sum(getattr(row, what) for row in rows) for what in ("claims", "wrong", "covered"))
    return (
        f"In all {claims:,} claims {wrong} are wrong ({wrong / claims:.1%}; allowed 5%); {covered / claims:.1%} of the "
        f"intervals hold the optimum (asked 95%). {2 * len(rows)} gates, two a valley, by one-sided binomial tests at "
        f".05 / {2 * len(rows)}: " + (f"**failed: {'; '.join(failed)}**." if failed else "**all hold**.")
    )


def _other(row: Row) -> list[str]:
    wrong = f"{row.wrong} of {row.claims}" if row.claims else ""
    return [
        row.surface, row.method, f"{row.replays}", f"{row.runs:.1f}", f"{1e3 * row.mean_regret:.2f}",
        f"{row.within / row.replays:.0%}", wrong, f"{row.wrong_unblocked}" if row.claims else "", _ended(row),
    ]  # fmt: skip


def _recognised(rows: Sequence[Row]) -> str:
    """Said to be no valley, or no harm done: the chosen rate within min_effect."""
    each = [f"{row.surface.partition(',')[0]}, {row.surface.rpartition(', ')[2]}: {_harmless(row):.0%}" for row in rows]
    return f"Recognised, or claims that do no harm, in each: {'; '.join(each)} (asked: 95%)."


def _harmless(row: Row) -> float:
    return 1 - row.wrong / row.replays


def _ended(row: Row) -> str:
    return ", ".join(f"{how} {num}" for how, num in sorted(row.ended.items(), key=lambda item: -item[1]))


def _ablation(one: dict[str, Any]) -> list[str]:
    no_effects = one["shown"] == 0 and one["covered"] == 0
    return [
        one["truth"], one["design"], f"{one['replays']}", f"{one['runs']:.1f}", f"1/{320 / one['runs']:.1f}",
        f"{1e3 * one['regret']:.2f}", f"{1e3 * one['worst']:.1f}", f"{1e3 * one['error']:.1f}",
        "none: no repeats" if no_effects else f"{one['shown']:.0%}",
        "" if no_effects else f"{one['covered']:.1%}", f"{one['folds']:.0%}" if "fraction" in one["design"] else "",
    ]  # fmt: skip


def picture(rows: Sequence[Row], path: Path) -> None:
    """Mean regret over the valleys against mean runs, one mark a method."""
    marks = []
    for name in METHODS:
        own = [row for row in rows if row.method == name and row.is_valley]
        if own:
            runs, regret = _mean(own, "runs"), 1e3 * _mean(own, "mean_regret")
            marks.append({"method": name, "runs": runs, "regret": regret, "ours": name.startswith("locate")})
    base = alt.Chart(alt.InlineData(values=marks)).encode(
        x=alt.X("runs:Q", scale=alt.Scale(type="log", domain=[3, 400]), title="runs (geometric mean over the valleys)"),
        y=alt.Y(
            "regret:Q",
            scale=alt.Scale(type="log", domain=[0.3, 6]),
            title="regret, thousandths of a nat (geometric mean)",
        ),
        color=alt.Color("ours:N", scale=alt.Scale(range=["#7a8699", "#3b5bdb"]), legend=None),
    )
    left = ["Ray's ASHA, NaN", "TPE, 13 runs", "Optuna's halving"]
    points = base.mark_point(size=90, filled=True, opacity=1)
    right = base.transform_filter(
        alt.FieldOneOfPredicate("method", [m["method"] for m in marks if m["method"] not in left])
    )
    other = base.transform_filter(alt.FieldOneOfPredicate("method", left))
    chart = (
        points
        + right.mark_text(align="left", dx=9, fontSize=12).encode(text="method:N")
        + other.mark_text(align="right", dx=-9, fontSize=12).encode(text="method:N")
    )
    spec = chart.properties(width=620, height=380, background="white").to_dict()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(vl_convert.vegalite_to_png(spec, scale=2))
