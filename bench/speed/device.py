"""python -m bench.speed.device: whole updates on a CUDA device, carried out in every way, and the plain trainer's.

Times are by the clock, over updates that end with a synchronisation; the first update of each way, in which kernels are
made, is timed apart. The share of the peak counts the model's products alone, against a large product in bf16.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from blueberry.architecture import flops_per_token
from blueberry.bench.measure import plain_updates_of, recipe_of
from blueberry.bench.plain import PlainTrainer
from blueberry.lm.training import Group
from blueberry.recipe import Recipe, read_overrides
from blueberry.records import Execution
from blueberry.text.dataset import Dataset, load

WAYS: tuple[Execution, ...] = ("eager", "graph", "compiled")
UPDATES = 20
PEAK_ROWS = 8192


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.speed.device", description=__doc__)
    parser.add_argument("sizes", nargs="*", default=["nano:1", "nano:64", "moe-79m-offline:1"], metavar="SIZE:LANES")
    parser.add_argument("--ways", nargs="*", default=WAYS, choices=WAYS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of every recipe")
    given = parser.parse_args(arguments)
    device = torch.device(given.device)
    peak = _peak(device)
    print(f"peak {peak / 1e12:.1f} TFLOP/s in bf16\n")
    print("| size | lanes | way | ms an update | first, s | times plain | of the peak |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with TemporaryDirectory() as folder:
        for size, lanes in (name.split(":") for name in given.sizes):
            known = recipe_of(size, "bf16") if size in ("pico", "nano", "small") else Recipe.load(size)
            recipe = known.with_({"train.precision": "bf16", "train.updates": 10**6, **read_overrides(given.set)})
            dataset = load(recipe.data, Path(folder))
            plain, _ = _milliseconds(_plain(recipe, dataset, device), device, UPDATES // 4)
            print(f"| {size} | 1 | plain | {plain:.1f} | | | |", flush=True)
            flops = flops_per_token(recipe) * recipe.update_tokens * int(lanes)
            for way in given.ways:
                group = Group([recipe.with_(seed=seed) for seed in range(int(lanes))], dataset, device, execution=way)
                taken, first = _milliseconds(_ours(group), device, UPDATES)
                ratio, share = int(lanes) * plain / taken, flops / taken * 1e3 / peak
                row = f"{taken:.2f} | {first:.1f} | {ratio:.1f} | {share:.1%}"
                print(f"| {size} | {lanes} | {way} | {row} |", flush=True)
    return 0


def _ours(group: Group) -> Callable[[int], None]:
    def go(num_updates: int) -> None:
        for _ in range(num_updates):
            group.step()
        group.read()

    return go


def _plain(recipe: Recipe, dataset: Dataset, device: torch.device) -> Callable[[int], None]:
    weights = Group([recipe], dataset, torch.device("cpu")).weights
    plain = PlainTrainer(
        recipe, {name: w[0].to(device) for name, w in weights.items()}, is_bf16=recipe.train.precision == "bf16"
    )
    return plain_updates_of(plain, dataset, recipe)


def _milliseconds(go: Callable[[int], None], device: torch.device, num_updates: int) -> tuple[float, float]:
    """Of an update once all is warm; and the seconds of the first."""
    first = _seconds(go, device, 1)
    go(4)
    return _seconds(go, device, num_updates) / num_updates * 1e3, first


def _seconds(go: Callable[[int], None], device: torch.device, num_updates: int) -> float:
    _wait(device)
    began = time.perf_counter()
    go(num_updates)
    _wait(device)
    return time.perf_counter() - began


def _peak(device: torch.device) -> float:
    """FLOPs a second of one large product of random numbers in bf16."""
    rows = PEAK_ROWS if device.type == "cuda" else 512
    x = torch.randn(rows, rows, dtype=torch.bfloat16, device=device)

    def go(times: int) -> None:
        for _ in range(times):
            torch.mm(x, x)

    go(3)
    return 10 * 2 * rows**3 / _seconds(go, device, 10)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())
