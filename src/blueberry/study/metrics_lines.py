"""What a command writes while it trains: one JSON object a line, read as it grows, and made a RunResult of."""

import json
import math
from pathlib import Path
from typing import Any

from blueberry.errors import TrainerError, did_you_mean
from blueberry.recipe import Recipe
from blueberry.records import Curve, Evaluation, Failure, Metrics, RunResult
from blueberry.study.workers import Crash

SHOWN_CHARACTERS = 80
OWN = ("update", "tokens", "flops", "seconds")
WHAT = ("loss", "bits_per_byte", "accuracy", "tokens")
"""After val_ and test_. Every number under another name is kept as it is, in `RunResult.extra`."""
Line = dict[str, Any]


class MetricsLines:
    """The lines of one run so far. Read again, it goes on where it was."""

    def __init__(self, path: Path, metric: str) -> None:
        self.path = path
        self._metric = metric
        self._lines: list[Line] = []
        self._offset = 0
        self._rest = b""

    def read(self, *, to_end: bool = False) -> bool:
        """Take in what was written since; True if there are new lines. `to_end`: nothing more will be written, and
        what stands after the last line break is a line too.

        Raises: Crash at a line that is no JSON object.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return False
        self._offset += len(data)
        *whole, self._rest = (self._rest + data + b"\n" * to_end).split(b"\n")
        for text in whole:
            self._add(text)
        return any(text.strip() for text in whole)

    @property
    def update(self) -> int:
        """Of the last line that has one; 0 before."""
        return next((line["update"] for line in reversed(self._lines) if "update" in line), 0)

    @property
    def train_loss(self) -> float | None:
        return next((_finite(line["train_loss"]) for line in reversed(self._lines) if "train_loss" in line), None)

    @property
    def diverged(self) -> bool:
        """Whether the last losses are not finite. That is a result, whatever the program's exit code."""
        last = {name: value for line in self._lines for name, value in line.items()}
        return any(_is_infinite(last.get(name)) for name in (self._metric, "val_loss", "train_loss"))

    def result(self, fingerprint: str, recipe: Recipe, seconds: float) -> RunResult:
        """What a program that has ended well has found. `seconds` is how long it took.

        Raises: TrainerError if the metric is missing.
        """
        diverged = self.diverged
        last = {name: value for line in self._lines for name, value in line.items()}
        if not diverged and _finite(last.get(self._metric)) is None:
            raise TrainerError(self._lacks(last))
        taken = _finite(last.get("seconds"))
        final, test = (None, None) if diverged else (_metrics(last, "val"), _metrics(last, "test"))
        curve = self._curve()
        own = set(OWN) | {f"{which}_{what}" for which, has in (("val", final), ("test", test)) if has for what in WHAT}
        own |= {"train_loss"} if curve.train_loss else set()
        return RunResult(
            fingerprint=fingerprint,
            recipe=recipe.flat(),
            status="diverged" if diverged else "completed",
            failure=Failure(kind="diverged", update=self._diverged_at(), message="the loss was not finite")
            if diverged
            else None,
            final=final,
            test=test,
            evaluations=self._evaluations(),
            curve=curve,
            num_updates=self.update or None,
            num_tokens=_count(last.get("tokens")),
            num_flops=_finite(last.get("flops")),
            train_seconds=seconds if taken is None or taken < 0 else taken,
            extra={name: _finite(value) for name, value in last.items() if _is_number(value) and name not in own},
        )

    def _add(self, text: bytes) -> None:
        if not text.strip():
            return
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict):
            raise Crash(f"{self.path.name}: {_shown(text)}; every line must be a JSON object; mend the program")
        update = line.pop("update", None)
        if update is not None:
            count = _count(update)
            if count is None:
                raise Crash(
                    f'{self.path.name} "update": {_shown(text)}; must be a whole number from 0; mend the program'
                )
            # A program that went on from its checkpoint says again what it had said after that.
            while self._lines and self._lines[-1].get("update", -1) > count:
                self._lines.pop()
            line["update"] = count
        self._lines.append(line)

    def _lacks(self, last: Line) -> str:
        if not self._lines:
            given = "has no line" if self.path.exists() else "no such file after the command had ended"
            return (
                f'[trainer] "result": {self.path.name}; {given}; the command must write its metrics there, one JSON '
                "object a line; mend the program or the name"
            )
        known = [name for name, value in last.items() if _is_number(value)]
        near = did_you_mean(self._metric, known)
        return f'[trainer] "result": {self.path.name} has no number "{self._metric}", the metric of the study{near}'

    def _diverged_at(self) -> int | None:
        names = (self._metric, "val_loss", "train_loss")
        for line in self._lines:
            if any(_is_infinite(line.get(name)) for name in names):
                return line.get("update")
        return None

    def _evaluations(self) -> tuple[Evaluation, ...]:
        found: dict[int, Evaluation] = {}
        for line in self._lines:
            measured = _metrics(line, "val")
            if measured is not None and "update" in line:
                tokens, seconds = _count(line.get("tokens")), _finite(line.get("seconds"))
                found[line["update"]] = Evaluation(
                    update=line["update"], tokens=tokens, seconds=seconds, validation=measured
                )
        return tuple(found.values())

    def _curve(self) -> Curve:
        """The training loss, if it was said of every update from the first: a curve has no holes."""
        losses = {
            line["update"]: _finite(line["train_loss"])
            for line in self._lines
            if {"update", "train_loss"} <= line.keys()
        }
        return Curve(train_loss=tuple(losses.values())) if [*losses] == [*range(1, len(losses) + 1)] else Curve()


def _metrics(line: Line, which: str) -> Metrics | None:
    """`which` is val or test; None where the line has no such loss."""
    loss = _finite(line.get(f"{which}_loss"))
    if loss is None:
        return None
    tokens = _count(line.get(f"{which}_tokens"))
    bits, accuracy = (_finite(line.get(f"{which}_{what}")) for what in ("bits_per_byte", "accuracy"))
    return Metrics(loss=loss, bits_per_byte=bits, accuracy=accuracy, num_tokens=tokens)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _finite(value: Any) -> float | None:
    try:
        return float(value) if _is_number(value) and math.isfinite(value) else None
    except OverflowError:
        return None


def _count(value: Any) -> int | None:
    """A whole number from 0."""
    number = _finite(value)
    return int(number) if number is not None and number >= 0 and number == int(number) else None


def _shown(text: bytes) -> str:
    said = " ".join(text[: SHOWN_CHARACTERS * 4].decode(errors="replace").split())
    return repr(said if len(said) <= SHOWN_CHARACTERS else said[: SHOWN_CHARACTERS - 3] + "...")
