"""Whole updates, this trainer's and the plain one's, in turns: what a shared and noisy machine can still tell.

An update is all of it: tokens, forward, backward, clipping, optimizer, and reading the loss. Both sides begin with the
same weights. A round times the sides one after another, forward and back (A B C, C B A), in slices of a few
updates; ratios are taken within a round, and told as their median with the least and the greatest. Single runs have
one thread each and are timed by their processor time, which other programs on the machine disturb little; packed ones
are processes of one thread that train at once, each as many runs as a study gives it (`study.placement.lanes_for`), and
are timed by the clock.

Where an update goes is the processor time of its operators, told apart by what calls them. Forward, what an operator is
for is known from the function it runs in, whose own time counts too (draws are numpy's); backward, from its own name.
What is outside of all these, Python itself, is what remains of the whole.
"""

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.autograd.profiler import profile, record_function  # torch.profiler would load torch's compilers too

from blueberry.architecture import flops_per_token, usable_cores, weight_shapes
from blueberry.bench.plain import PlainTrainer
from blueberry.lm import attention, feed_forward, optimizers, training, update
from blueberry.lm.draws import Draws
from blueberry.lm.layers import Precision, multiplies_bf16
from blueberry.lm.optimizers import GRAM_PAYS_FROM, group_of
from blueberry.lm.training import Group
from blueberry.recipe import Recipe
from blueberry.settings import MUON_GROUPS, MuonAdamWOptimizer
from blueberry.study.placement import lanes_for
from blueberry.text.dataset import Dataset, load
from blueberry.text.windows import batch

CPU = torch.device("cpu")
SLICE_SECONDS = 0.4
"""Of the plain trainer's updates in a slice, about; a slice is one update at least."""
PEAK_ROWS = 1024
LANES = 4
"""Runs side by side in one thread."""
MANY_RUNS = 64
"""As a study hands out together: every worker gets as many side by side as are worth it."""

_COMMON = {"model.dropout": 0.1, "train.batch_sequences": 16, "train.updates": 100_000}
SIZES: dict[str, dict[str, Any]] = {
    "pico": {"model.num_heads": 2, "model.feed_forward.hidden": 64, "model.feed_forward.num_experts": 4},
    "nano": {
        "model.width": 128,
        "model.num_layers": 4,
        "model.num_heads": 4,
        "model.context_tokens": 128,
        "model.feed_forward.hidden": 512,
        "data.vocabulary_tokens": 2048,
    },
    "small": {
        "model.width": 192,
        "model.num_layers": 6,
        "model.num_heads": 6,
        "model.context_tokens": 256,
        "model.feed_forward.hidden": 768,
        "data.vocabulary_tokens": 4096,
        "train.batch_sequences": 8,
    },
}
"""Mixtures of experts with dropout, router noise, both optimizers and clipping. The noise of pico's runs is known."""
DEFAULT_SIZES = ("pico", "nano")


@dataclass
class Timed:
    """Seconds of an update, slice by slice, of one side."""

    processor: list[float] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Speed:
    """One size in one precision."""

    size: str
    precision: Precision
    update_tokens: int
    update_flops: float
    """Of the products of an update, the orthogonalizations' included, as the plain form has them."""
    own_flops: float
    """As ours has them."""
    plain: Timed
    single: Timed
    lanes: Timed
    """Of one update of `LANES` runs."""
    packed: Timed | None
    """Of one update of every run of every worker; None where there is one core."""
    workers: int
    worker_lanes: int
    """Runs side by side in each worker."""
    peak: list[float]
    """FLOPs a second of a large product, one thread, in the same rounds."""

    def ratios(self) -> list[float]:
        """How many times the plain trainer's speed one run has, round by round."""
        return [p / s for p, s in zip(self.plain.processor, self.single.processor, strict=True)]

    def lane_ratios(self) -> list[float]:
        """The same of `LANES` runs side by side, together."""
        return [LANES * p / s for p, s in zip(self.plain.processor, self.lanes.processor, strict=True)]

    def packed_ratios(self) -> list[float]:
        """The same of all workers together, by the clock."""
        if self.packed is None:
            return []
        num_runs = self.workers * self.worker_lanes
        return [num_runs * p / s for p, s in zip(self.plain.clock, self.packed.clock, strict=True)]

    def share_of_peak(self, flops: float) -> float:
        """Of what one core's products could do at most, where an update has so many FLOPs."""
        return flops / statistics.median(self.single.processor) / statistics.median(self.peak)

    def to_dict(self) -> dict[str, Any]:
        """For --json: ratios as (median, least, greatest)."""
        tokens = {
            side: self.update_tokens / statistics.median(timed.processor)
            for side, timed in (("plain", self.plain), ("single", self.single))
        }
        return {
            "size": self.size,
            "precision": self.precision,
            "tokens_per_second": tokens,
            "ratio": spread(self.ratios()),
            "lane_ratio": spread(self.lane_ratios()),
            "packed_ratio": spread(self.packed_ratios()) if self.packed else None,
            "workers": self.workers,
            "worker_lanes": self.worker_lanes,
            "share_of_peak": self.share_of_peak(self.update_flops),
            "update_flops": self.update_flops,
            "own_update_flops": self.own_flops,
            "peak_flops": statistics.median(self.peak),
        }


def spread(numbers: list[float]) -> tuple[float, float, float]:
    """Median, least and greatest."""
    return statistics.median(numbers), min(numbers), max(numbers)


def recipe_of(size: str, precision: Precision) -> Recipe:
    return Recipe().with_({**_COMMON, **SIZES[size], "train.precision": precision})


def measure_size(size: str, store: Path, *, rounds: int, packed: bool = True) -> list[Speed]:
    """One size in every precision that this machine multiplies. `store` keeps the prepared text."""
    precisions: list[Precision] = ["fp32", "bf16"] if multiplies_bf16(CPU) else ["fp32"]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_measure(size, precision, store, rounds, packed) for precision in precisions]
    finally:
        torch.set_num_threads(before)


def update_flops(recipe: Recipe, *, by_gram: bool = False) -> float:
    """Of an update's products: the model's, and those of the orthogonalization of every matrix, the usual one or, where
    ours is so, on Gram matrices."""
    flops = flops_per_token(recipe) * recipe.update_tokens
    if not isinstance(recipe.optimizer, MuonAdamWOptimizer):
        return flops
    steps = recipe.optimizer.muon.num_iterations
    for name, shape in weight_shapes(recipe).items():
        if group_of(name) in MUON_GROUPS:
            short, long = sorted(shape[-2:])
            multiplications = steps * (2 * short * short * long + short**3)
            if by_gram and long >= GRAM_PAYS_FROM * short:  # four products a step, three of them not in the last
                multiplications = 2 * short * short * long + (4 * steps - 3) * short**3
            flops += math.prod(shape[:-2]) * 2 * multiplications
    return flops


def _measure(size: str, precision: Precision, store: Path, rounds: int, packed: bool) -> Speed:
    recipe = recipe_of(size, precision)
    dataset = load(recipe.data, store)
    group = Group([recipe], dataset, CPU)
    plain = PlainTrainer(recipe, {name: w[0].clone() for name, w in group.weights.items()}, is_bf16=precision == "bf16")
    mine, its = updates_of(group), plain_updates_of(plain, dataset, recipe)
    together = updates_of(Group([recipe.with_(seed=seed) for seed in range(LANES)], dataset, CPU))
    for first in (mine, its, together):  # it allocates
        first(1)
    seconds, _ = _timed(its, 1)
    num_updates = max(1, round(SLICE_SECONDS / max(seconds, 1e-3)))
    workers = usable_cores() if packed else 1
    worker_lanes = lanes_for(recipe, MANY_RUNS, (), workers)
    crew = _Crew(recipe, store, workers, worker_lanes) if workers > 1 else None
    speed = Speed(
        size, precision, recipe.update_tokens, update_flops(recipe), update_flops(recipe, by_gram=True),
        Timed(), Timed(), Timed(), Timed() if crew else None, workers, worker_lanes, [],
    )  # fmt: skip
    sides: list[tuple[Timed, Callable[[int], tuple[float, float]]]] = [
        (speed.plain, lambda n: _timed(its, n)),
        (speed.single, lambda n: _timed(mine, n)),
        (speed.lanes, lambda n: _timed(together, n)),
    ]
    if crew and speed.packed:
        sides.append((speed.packed, crew.timed))
    try:
        for _ in range(rounds):
            sums = [[0.0, 0.0] for _ in sides]
            for at in [*range(len(sides)), *reversed(range(len(sides)))]:
                for which, seconds in enumerate(sides[at][1](num_updates)):
                    sums[at][which] += seconds / (2 * num_updates)
            for (timed, _), (clock, processor) in zip(sides, sums, strict=True):
                timed.clock.append(clock)
                timed.processor.append(processor)
            speed.peak.append(_peak(precision))
    finally:
        if crew:
            crew.end()
    return speed


def updates_of(group: Group) -> Callable[[int], None]:
    """Do so many updates of a group, each with its loss read."""

    def go(num_updates: int) -> None:
        for _ in range(num_updates):
            group.step()
            group.read()

    return go


def plain_updates_of(plain: PlainTrainer, dataset: Dataset, recipe: Recipe) -> Callable[[int], None]:
    """The same of the plain trainer, on the same batches."""

    def go(num_updates: int) -> None:
        for _ in range(num_updates):
            tokens = batch(
                dataset.train,
                seed=recipe.seed,
                update=plain.update,
                batch_sequences=recipe.train.batch_sequences,
                context_tokens=recipe.model.context_tokens,
            )
            plain.step(torch.from_numpy(tokens))

    return go


def _timed(go: Callable[[int], None], num_updates: int) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    go(num_updates)
    return time.perf_counter() - clock, time.process_time() - processor


def _peak(precision: Precision) -> float:
    """FLOPs a second of one large product of random numbers, by processor time."""
    x = torch.randn(PEAK_ROWS, PEAK_ROWS).to(torch.bfloat16 if precision == "bf16" else torch.float32)
    began = time.process_time()
    torch.mm(x, x)
    return 2 * PEAK_ROWS**3 / (time.process_time() - began)


class _Crew:
    """Processes of one thread that train so many lanes each, at once when they are told to."""

    def __init__(self, recipe: Recipe, store: Path, workers: int, lanes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        self._processes = []
        for worker in range(workers):
            ours, theirs = context.Pipe()
            recipes = [recipe.with_(seed=worker * lanes + lane) for lane in range(lanes)]
            process = context.Process(target=_serve, args=(theirs, recipes, store), daemon=True)
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)
        for end in self._ends:
            end.recv()

    def timed(self, num_updates: int) -> tuple[float, float]:
        """Seconds by the clock until the last is done, and of the processor of the longest."""
        began = time.perf_counter()
        for end in self._ends:
            end.send(num_updates)
        processor = max(end.recv() for end in self._ends)
        return time.perf_counter() - began, processor

    def end(self) -> None:
        for end, process in zip(self._ends, self._processes, strict=True):
            end.send(0)
            process.join()


def _serve(connection: Connection, recipes: list[Recipe], store: Path) -> None:
    torch.set_num_threads(1)
    go = updates_of(Group(recipes, load(recipes[0].data, store), CPU))
    go(1)
    connection.send(None)
    while num_updates := connection.recv():
        connection.send(_timed(go, num_updates)[1])


PARTS: tuple[str, ...] = (
    "products",
    "attention",
    "routing",
    "draws",
    "elementwise",
    "orthogonalizing",
    "optimizer",
    "data",
    "Python",
)

_PLACES: tuple[tuple[Any, str, str], ...] = (
    (training, "batch", "data"),
    (Draws, "keep", "draws"),
    (Draws, "keep_rows", "draws"),
    (Draws, "normal", "draws"),
    (attention, "attend", "attention"),
    (feed_forward.Assignment, "of", "routing"),
    (feed_forward, "dispatch", "routing"),
    (feed_forward, "combine", "routing"),
    (optimizers, "orthogonalize", "orthogonalizing"),
    (optimizers.Optimizer, "begin", "optimizer"),
    (optimizers.Optimizer, "end", "optimizer"),
    (update, "clip", "optimizer"),
    (update, "norms", "optimizer"),
)
_OPERATORS = {"_DispatchBackward": "routing", "_CombineBackward": "routing", "_softmax_backward_data": "attention"}
_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "addmm_", "matmul", "addbmm", "_grouped_mm")


def where_an_update_goes(size: str, store: Path, *, num_updates: int) -> dict[str, float]:
    """Each part's share of an update in fp32 on one thread; they add up to 1."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        recipe = recipe_of(size, "fp32")
        with _named():  # when the group is made too: an update holds on to some of them
            go = updates_of(Group([recipe], load(recipe.data, store), CPU))
            go(2)
            began = time.process_time()
            go(num_updates)
            whole = time.process_time() - began
            with profile() as seen:
                go(num_updates)
    finally:
        torch.set_num_threads(before)
    seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    assert seen is not None, "it was enabled"
    for event in seen.function_events or ():
        seconds[_part(event)] += event.self_cpu_time_total / 1e6
    seconds["Python"] = max(0.0, whole - sum(seconds.values()))
    return {part: taken / sum(seconds.values()) for part, taken in seconds.items()}


@contextmanager
def _named() -> Iterator[None]:
    """Within, the functions of `_PLACES` say what they are for."""
    patches = [patch.object(where, name, _saying(getattr(where, name), part)) for where, name, part in _PLACES]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()


def _saying(function: Callable[..., Any], part: str) -> Callable[..., Any]:
    def said(*given: Any, **named: Any) -> Any:
        with record_function(part):
            return function(*given, **named)

    return said


def _part(event: Any) -> str:
    """By the innermost named function that it runs in, else by the outermost operator that is known, else its own."""
    own, found = event.name.removeprefix("aten::"), None
    while event is not None:
        if event.name in PARTS:
            return event.name
        found = _OPERATORS.get(event.name.removeprefix("aten::"), found)
        event = event.cpu_parent
    return found or ("products" if own in _PRODUCTS else "elementwise")
