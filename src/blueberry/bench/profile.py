"""Where an update goes: the processor time of its operators, told apart by what calls them.

Forward, what an operator is for is known from the function it runs in, whose own time counts too (draws are numpy's);
backward, from its own name. What is outside of all these, Python itself, is what remains of the whole.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from blueberry.bench.measure import CPU, recipe_of, updates_of
from blueberry.lm import attention, feed_forward, optimizers, training, update
from blueberry.lm.draws import Draws
from blueberry.lm.training import Group
from blueberry.text.dataset import load

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
            with profile(activities=[ProfilerActivity.CPU]) as seen:
                go(num_updates)
    finally:
        torch.set_num_threads(before)
    seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    for event in seen.events() or ():
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
