"""How fast this machine trains, against a plain trainer and against what its products could do at most: as tables."""

import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from blueberry.architecture import usable_cores
from blueberry.bench.measure import DEFAULT_SIZES, LANES, SIZES, Speed, measure_size, spread, where_an_update_goes
from blueberry.errors import RecipeError


def machine() -> str:
    """What measured, in a line."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{_processor()}, {usable_cores()} cores, {capability}, torch {torch.__version__}"


def _processor() -> str:
    """The CPU's name as its maker gives it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def measured(
    sizes: Sequence[str] | None, folder: Path, *, rounds: int, tell: Callable[[str], object] | None
) -> tuple[dict[str, Any], str]:
    """Measure models of these sizes, with text kept in `folder`: a document for --json, and the tables.

    Raises: RecipeError if there is no such size.
    """
    for size in sizes or ():
        if size not in SIZES:
            raise RecipeError(f"size: {size!r}; there are {', '.join(SIZES)}; give some of these")
    speeds: list[Speed] = []
    shares: dict[str, dict[str, float]] = {}
    for size in sizes or DEFAULT_SIZES:
        if tell is not None:
            tell(f"measuring {size}")
        speeds += measure_size(size, folder, rounds=rounds)
        shares[size] = where_an_update_goes(size, folder, num_updates=3)
    document = {"machine": machine(), "speeds": [speed.to_dict() for speed in speeds], "shares": shares}
    return document, tables(speeds, shares)


def tables(speeds: Sequence[Speed], shares: Mapping[str, Mapping[str, float]]) -> str:
    """Three Markdown tables: speeds and their ratios, what bounds these, and where an update goes."""
    head = [
        "size", "precision", "plain, tokens/s", "one run, tokens/s", "ratio", f"ratio of {LANES} lanes", "packed",
        "ratio of packed", "share of peak",
    ]  # fmt: skip
    rows = [
        [
            speed.size,
            speed.precision,
            _tokens(speed, speed.plain.processor),
            _tokens(speed, speed.single.processor),
            _spread(speed.ratios()),
            _spread(speed.lane_ratios()),
            _workers(speed),
            _spread(speed.packed_ratios()) if speed.packed else "-",
            f"{speed.share_of_peak(speed.update_flops):.0%}",
        ]
        for speed in speeds
    ]
    bound = [
        "size", "precision", "GFLOP of an update, plain", "ours", "ours at the peak, of our time",
        "ratio if that were all", "ratio if all but products, attention and orthogonalizing were free",
    ]  # fmt: skip
    bounds = [bound, *(_bound(speed, shares.get(speed.size, {})) for speed in speeds)]
    parts = list(next(iter(shares.values()), {}))
    goes = [["part of an update", *shares], *([part, *(f"{shares[s][part]:.0%}" for s in shares)] for part in parts)]
    made = [machine() + ".", "", *_markdown([head, *rows]), "", *_markdown(bounds), ""]
    return "\n".join([*made, *(_markdown(goes) if parts else ())])


def _bound(speed: Speed, shares: Mapping[str, float]) -> list[str]:
    ratio, at_peak = statistics.median(speed.ratios()), speed.share_of_peak(speed.own_flops)
    needed = sum(shares.get(part, 0.0) for part in ("products", "attention", "orthogonalizing"))
    return [
        speed.size,
        speed.precision,
        f"{speed.update_flops / 1e9:.1f}",
        f"{speed.own_flops / 1e9:.1f}",
        f"{at_peak:.0%}",
        f"{ratio / at_peak:.1f}",
        f"{ratio / needed:.1f}" if needed and speed.precision == "fp32" else "-",
    ]


def _workers(speed: Speed) -> str:
    if not speed.packed:
        return "-"
    return f"{speed.workers} workers" + (f", {speed.worker_lanes} runs each" if speed.worker_lanes > 1 else "")


def _tokens(speed: Speed, seconds: Sequence[float]) -> str:
    return f"{speed.update_tokens / statistics.median(seconds):,.0f}"


def _spread(ratios: list[float]) -> str:
    middle, least, greatest = spread(ratios)
    return f"{middle:.2f} [{least:.2f}, {greatest:.2f}]"


def _markdown(rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]]
