"""What a program reports of its run, in a file or in what it prints: read while it trains, and made a RunResult of.

Whatever the form, it comes down to lines: the numbers that were said at one moment, by name.
"""

import csv
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from blueberry.errors import TableError, TrainerError, did_you_mean
from blueberry.recipe import Recipe
from blueberry.records import Curve, Evaluation, Failure, Metrics, RunResult, is_number
from blueberry.study.program import WHAT, line_pattern, own_name
from blueberry.study.sections import shown
from blueberry.study.workers import Crash
from blueberry.tables.reading import read_table
from blueberry.tables.rows import flat, loads

LARGEST_LOSS = 1e12
"""Beyond it, as at infinity, a run has diverged: no loss or perplexity that means something is larger."""
LARGEST_COUNT = 2**53
"""Up to it floats count every whole number."""
LONGEST_INTEGER = 19
"""Digits of a whole number that is read as one."""
MOST_BYTES, MOST_LINES, LONGEST_LINE = 2**27, 10**6, 2**20
"""Of a file of metrics."""
READ_AT_ONCE = 2**23
"""Bytes; between two reads the run's time limit is looked at."""
COUNTS = ("update", "tokens", "val_tokens", "test_tokens")
UPDATES = ("step", "global_step", "iteration", "iter")
"""Other names of `update`, where that is not given."""
_COLOURS = re.compile(r"\x1b\[[\d;]*+m")
Line = dict[str, float]
"""Numbers by name; counts are whole."""


class ProgramResults:
    """The lines of one run so far. Read again, it goes on where it was."""

    def __init__(self, path: Path, metric: str, patterns: Sequence[str] = ()) -> None:
        """`path` is the file of metrics or, with patterns, what the program prints."""
        self.path = path
        self._metric = metric
        self._patterns = [line_pattern(one) for one in patterns]
        self._shown_patterns = tuple(patterns)
        self._at_the_end = not patterns and path.suffix.lower() in (".json", ".csv", ".tsv")
        self._lines: list[Line] = []
        self._steps_are_updates = True
        self._offset = self._num_texts = 0
        self._rest = b""

    def read(self, *, to_end: bool = False) -> bool:
        """Take in what was written since; True if there are new lines. `to_end`: nothing more will be written.

        Raises: Crash at a line that breaks the contract, TrainerError if it is no file that could be read to its end.
        """
        before = len(self._lines)
        if os.path.isdir(self.path):
            if to_end:
                self._read_folder()
        elif not self._at_the_end:
            while self._read_on(to_end=to_end) and to_end:
                pass
        elif to_end:
            self._read_whole()
        return len(self._lines) != before

    @property
    def update(self) -> int:
        """Of the last line that has one; 0 before."""
        return next((int(line["update"]) for line in reversed(self._lines) if "update" in line), 0)

    @property
    def train_loss(self) -> float | None:
        return next((_finite(line["train_loss"]) for line in reversed(self._lines) if "train_loss" in line), None)

    @property
    def diverged(self) -> bool:
        """Whether the last losses are not finite. That is a result, whatever the program's exit code."""
        return self._is_beyond(self._last())

    def result(self, fingerprint: str, recipe: Recipe, seconds: float) -> RunResult:
        """What a program that has ended well has found. `seconds` is how long it took.

        Raises: TrainerError if the metric is missing.
        """
        last, diverged = self._last(), self.diverged
        if not diverged and _finite(last.get(self._metric)) is None:
            raise TrainerError(self._lacks(last))
        final, test = (None, None) if diverged else (_metrics(last, "val"), _metrics(last, "test"))
        curve = self._curve()
        own = {"update", "tokens", "flops", "seconds"} | ({"train_loss"} if curve.train_loss else set())
        own |= {f"{which}_{what}" for which, has in (("val", final), ("test", test)) if has for what in WHAT}
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
            train_seconds=last.get("seconds", seconds),
            extra={name: _finite(value) for name, value in last.items() if name not in own},
        )

    def _last(self) -> Line:
        """The last value of every name."""
        return {name: value for line in self._lines for name, value in line.items()}

    def _is_beyond(self, line: Line) -> bool:
        names = (self._metric, "val_loss", "train_loss")
        return any(name in line and not abs(line[name]) <= LARGEST_LOSS for name in names)

    def _read_on(self, *, to_end: bool) -> bool:
        """Lines as they are written. True if there is more to read."""
        try:
            data = _read(self.path, self._offset, READ_AT_ONCE)
        except OSError:
            return False
        self._offset += len(data)
        more = len(data) == READ_AT_ONCE
        whole, self._rest = _split(self._rest + data, ends=to_end and not more, printed=bool(self._patterns))
        for text in whole:
            self._num_texts += 1
            if self._patterns:
                self._add_printed(text)
            elif text.strip():
                self._add_json(text, f"line {self._num_texts}")
        if self._patterns:
            self._rest = self._rest[:LONGEST_LINE]
        elif len(self._rest) > LONGEST_LINE or self._offset > MOST_BYTES:
            self._refuse_endless()
        return more

    def _read_whole(self) -> None:
        """A file that means something only when it is complete."""
        try:
            data = _read(self.path, 0, MOST_BYTES + 1)
        except OSError:
            return
        if len(data) > MOST_BYTES:
            self._refuse_endless()
        if self.path.suffix.lower() != ".json":
            for place, values in self._rows(data.decode(errors="replace")):
                self._add(values, place)
            return
        try:
            document = self._loads(data, self.path.name)
        except (ValueError, RecursionError):  # perhaps an object a line
            for number, text in enumerate(data.split(b"\n"), 1):
                if text.strip():
                    self._add_json(text, f"line {number}")
            return
        for place, values in _entries(document):
            self._add(values, place)

    def _read_folder(self) -> None:
        """The last values of the one run that TensorBoard or W&B kept there."""
        try:
            table = read_table(self.path)
        except TableError as broken:
            raise TrainerError(f'[trainer] "result": {broken}') from None
        if len(table.rows) != 1:
            raise TrainerError(
                f'[trainer] "result": {self.path.name}; {len(table.rows)} runs are in it; a run has a folder '
                "of its own; tell the program {out}"
            )
        values = dict(table.rows[0].values)
        if (meaning := table.renamed.get(self._metric)) is not None:  # the study has the program's name for it
            values[self._metric] = values.get(meaning)
        self._add(values, "")

    def _rows(self, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
        reader = csv.DictReader(text.splitlines(), delimiter="\t" if self.path.suffix.lower() == ".tsv" else ",")
        try:
            for row in reader:
                yield f"line {reader.line_num}", {name: value for name, value in row.items() if name and value}
        except csv.Error as broken:
            raise Crash(
                f"{self.path.name} line {reader.line_num}: {broken}; no row of a CSV; mend the program"
            ) from None

    def _loads(self, text: bytes, place: str) -> Any:
        try:
            return loads(text, place, parse_int=_integer)
        except TableError as twice:  # a key with two values
            raise Crash(str(twice)) from None

    def _add_json(self, text: bytes, place: str) -> None:
        try:
            line = self._loads(text, f"{self.path.name} {place}")
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict):
            given = shown(" ".join(text.decode(errors="replace").split()))
            raise Crash(f"{self.path.name} {place}: {given}; every line must be a JSON object; mend the program")
        self._add(line, place)

    def _add_printed(self, text: bytes) -> None:
        said = _COLOURS.sub("", text[:LONGEST_LINE].decode(errors="replace"))
        values: dict[str, Any] = {}
        for expression, names in self._patterns:
            if (found := expression.search(said)) is not None:
                values |= {
                    name: float(number.replace(",", ""))
                    for name, number in zip(names, found.groups(), strict=True)
                    if name
                }
        if values:
            if "update" not in values and self.update:
                values["update"] = self.update
            self._add(values, f"line {self._num_texts}")

    def _add(self, values: Mapping[str, Any], place: str) -> None:
        """Its numbers, under our names where they have others. Raises: Crash."""
        line: Line = {}
        for name, value in flat(values).items():
            if not is_number(value):
                continue
            own = own_name(name)
            if own != name and own in values:
                own = name
            line[own] = float(value)
            if name == self._metric:
                line[name] = line[own]
        told = "update" in line
        for name in UPDATES:
            if self._steps_are_updates and "update" not in line and _count(line.get(name)) is not None:
                line["update"] = line[name]
        for name in COUNTS:
            if name in line and _count(line[name]) is None:
                self._refuse(place, name, line[name], "must be a whole number from 0 to 2**53")
        for name in ("flops", "seconds"):
            if name in line and not 0 <= line[name] <= 1e300:
                self._refuse(place, name, line[name], "must be a number from 0")
        if told:  # a program that went on from its checkpoint says again what it had said after that
            while self._lines and self._lines[-1].get("update", -1) > line["update"]:
                self._lines.pop()
        elif line.get("update", self.update) < self.update:  # steps of an epoch, which begin again
            self._steps_are_updates = False
            self._lines = [{name: value for name, value in one.items() if name != "update"} for one in self._lines]
            line.pop("update")
        if len(self._lines) == MOST_LINES:
            self._refuse_endless()
        self._lines.append(line)

    def _refuse(self, place: str, name: str, value: float, rule: str) -> None:
        raise Crash(f'{self.path.name} {place} "{name}": {value:g}; {rule}; mend the program')

    def _refuse_endless(self) -> None:
        raise TrainerError(
            f'[trainer] "result": {self.path.name}; more than {MOST_BYTES >> 20} MB or {MOST_LINES:,} lines, or a line '
            f"of more than {LONGEST_LINE >> 20} MB; it is read no further; report fewer updates"
        )

    def _lacks(self, last: Line) -> str:
        if self._shown_patterns and self._metric not in last:
            return (
                f'[trainer] "stdout": {self._shown_patterns[0]!r}; no number "{self._metric}", the metric of the '
                "study, was found in what the program printed; mend the patterns or the program"
            )
        if not self._lines:
            given = "has no line" if self.path.exists() else "no such file after the command had ended"
            return (
                f'[trainer] "result": {self.path.name}; {given}; the command must write its metrics there, one JSON '
                "object a line; mend the program or the name"
            )
        near = did_you_mean(self._metric, last)
        return f'[trainer] "result": {self.path.name} has no number "{self._metric}", the metric of the study{near}'

    def _diverged_at(self) -> int | None:
        return next((_count(line.get("update")) for line in self._lines if self._is_beyond(line)), None)

    def _evaluations(self) -> tuple[Evaluation, ...]:
        found: dict[int, Evaluation] = {}
        for line in self._lines:
            measured, update = _metrics(line, "val"), _count(line.get("update"))
            if measured is not None and update is not None:
                tokens, seconds = _count(line.get("tokens")), line.get("seconds")
                found[update] = Evaluation(update=update, tokens=tokens, seconds=seconds, validation=measured)
        return tuple(found.values())

    def _curve(self) -> Curve:
        """The training loss, if it was said of every update from the first: a curve has no holes."""
        losses = {
            line["update"]: _finite(line["train_loss"])
            for line in self._lines
            if {"update", "train_loss"} <= line.keys()
        }
        return Curve(train_loss=tuple(losses.values())) if [*losses] == [*range(1, len(losses) + 1)] else Curve()


def _read(path: Path, offset: int, most: int) -> bytes:
    """Of a regular file: a pipe or a device would never end. Raises: OSError; TrainerError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TrainerError(
                f'[trainer] "result": {path.name}; not a regular file, and only such a one can be read to its end; '
                "mend the program or the name"
            )
        file.seek(offset)
        return file.read(most)


def _split(data: bytes, *, ends: bool, printed: bool) -> tuple[list[bytes], bytes]:
    """Whole lines, and the beginning of the next. A progress bar draws over its line after a carriage return."""
    if printed:
        data = data.replace(b"\r", b"\n")
    *whole, rest = data.split(b"\n")
    return ([*whole, rest], b"") if ends and rest else (whole, rest)


def _entries(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines of a JSON document: an object, a list of them, an object of equally long lists, or an object that holds
    a list of objects, as the `trainer_state.json` of transformers does."""
    if isinstance(document, list):
        yield from ((f"entry {number}", one) for number, one in enumerate(document, 1) if isinstance(one, dict))
    elif isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        if lists and len(lists) == len(document) and len({len(one) for one in lists}) == 1:
            rows = zip(*document.values(), strict=True)
            yield from (
                (f"entry {number}", dict(zip(document, row, strict=True))) for number, row in enumerate(rows, 1)
            )
            return
        for name, value in document.items():
            if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
                yield from ((f"{name} {number}", _of_transformers(one)) for number, one in enumerate(value, 1))
        yield "", document


def _of_transformers(entry: dict[str, Any]) -> dict[str, Any]:
    """Its names are its own: the training loss of a step is `loss`, and `train_loss` the mean of the whole run."""
    if "step" not in entry or "train_runtime" in entry:
        return {name: value for name, value in entry.items() if name != "step"}
    return {"train_loss" if name == "loss" else name: value for name, value in entry.items()}


def _metrics(line: Line, which: str) -> Metrics | None:
    """`which` is val or test; None where the line has no such loss."""
    loss = _finite(line.get(f"{which}_loss"))
    if loss is None:
        return None
    bits, accuracy = (_finite(line.get(f"{which}_{what}")) for what in ("bits_per_byte", "accuracy"))
    return Metrics(loss=loss, bits_per_byte=bits, accuracy=accuracy, num_tokens=_count(line.get(f"{which}_tokens")))


def _integer(digits: str) -> float:
    """A number, however many digits it has: beyond what a count can be it need not be exact."""
    return int(digits) if len(digits) <= LONGEST_INTEGER else float(digits)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _count(value: float | None) -> int | None:
    """A whole number from 0."""
    return int(value) if value is not None and 0 <= value <= LARGEST_COUNT and value == int(value) else None
