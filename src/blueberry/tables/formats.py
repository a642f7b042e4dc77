"""How files are opened, whoever wrote them: JSON and JSON Lines as runs, YAML, CSV, SQLite for reading only.

What is damaged, or needs a library that is not installed, is refused in one line.
"""

import csv
import io
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from blueberry.errors import TableError
from blueberry.records import is_number
from blueberry.tables.columns import WRAPPERS, folded, is_name, kind_by_name
from blueberry.tables.rows import STEPS, Placed, is_finite, named_in, value_of

OWN_SCHEMA = "blueberry/results/"
LISTS = ("runs", "rows", "records", "experiments", "trials", "results", "data")
"""Keys of an object that may hold the list of runs."""
MOST_BITS, LONGEST_INTEGER = 64, 19
"""Of a whole number that is read as one."""
LAST_OF = {"train_losses": "last of train_losses", "training_losses": "last of train_losses"}
"""Curves whose last number is worth a column."""


def read_json(text: str, place: str) -> Iterator[Placed]:
    """Every run of a JSON document: a list of objects, {"runs": [...]}, {name: {...}, ...}, columns of equal length,
    or a single run's object.

    Raises: TableError if it is not JSON, or holds no objects.
    """
    document = _parsed(text, place)
    if isinstance(document, dict) and str(document.get("schema", "")).startswith(OWN_SCHEMA):
        yield from _own_runs(document, place)
        return
    for where, run in _objects(document, place):
        if not isinstance(run, dict):
            remedy = 'write [{"learning_rate": 0.01, "val_loss": 3.2}, ...]'
            raise TableError(f"{place} {where}: {type(run).__name__}; each run must be an object; {remedy}")
        for inside, values in of_each_seed(run):
            yield f"{where} {inside}".strip(), values


def read_json_lines(text: str, place: str) -> Iterator[Placed]:
    """One object a line. Raises: TableError naming the first line that is none."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        run = _parsed(line, f"{place} line {number}")
        if not isinstance(run, dict):
            raise TableError(f"{place} line {number}: {type(run).__name__}; each line must be an object; mend it")
        yield f"line {number}", flat(run)


def of_each_seed(run: Mapping[str, Any]) -> list[Placed]:
    """An object's values; or, where it has its seeds inside, those of each: `"seeds": [0, 1]` with lists as long beside
    it, or `"seed_results": {"0": {...}, "1": {...}}`;
    or the run of a Trainer's state. What it says of all of them, a mean, is no run's result."""
    if isinstance(run.get("log_history"), list):
        return [("", trainer_state(run))]
    by_seed = next((key for key, value in run.items() if "seed" in key.casefold() and _is_by_seed(value)), None)
    seeds = next((key for key, value in run.items() if key.casefold() in _SEEDS and _is_list(value)), None)
    lists = [key for key, value in run.items() if seeds and key != seeds and _is_list(value, len(run[seeds]))]
    given = {name: value for name, value in flat(run).items() if kind_by_name(name) != "result"}
    given = {name: value for name, value in given.items() if not name.startswith((f"{by_seed}.", "seeds", "num_seeds"))}
    if by_seed is not None:
        return [(f"seed {seed}", {**given, "seed": int(seed), **flat(one)}) for seed, one in run[by_seed].items()]
    if seeds is None or not lists:
        return [("", flat(run))]
    means = {name: value for name, value in flat(run).items() if name not in given and is_finite(value)}
    of = {key: next((n for n, mean in means.items() if _is_mean(mean, run[key])), _singular(key)) for key in lists}
    return [
        (f"seed {seed}", {**given, "seed": seed, **{of[key]: plain(run[key][place]) for key in lists}})
        for place, seed in enumerate(run[seeds])
    ]


_SEEDS = ("seeds", "seed", "random_seeds")
_ROUNDED = 1e-4
"""Relative: what a mean was rounded by."""
_PLURALS = {"losses": "loss", "accuracies": "accuracy", "perplexities": "perplexity"}


def _is_by_seed(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 1
        and all(str(key).isdecimal() and isinstance(one, Mapping) for key, one in value.items())
    )


def _is_list(value: Any, length: int = 0) -> bool:
    """Of so many plain numbers; of two or more where nobody says how many."""
    return isinstance(value, (list, tuple)) and 2 <= len(value) == (length or len(value)) and all(map(is_number, value))


def _is_mean(value: float, of: Sequence[float]) -> bool:
    """So that a list called seed_scores is known for the metric of which the mean stands beside it."""
    return abs(value - fmean(of)) <= _ROUNDED * abs(value) and (max(of) > min(of))


def _singular(name: str) -> str:
    head, _, last = name.rpartition("_")
    last = _PLURALS.get(last, last.removesuffix("s") if last in ("scores", "ppls", "bpbs") else last)
    return f"{head}_{last}" if head else last


def flat(run: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """An object's plain values by dotted name. Lists are left out, but for the last of the training losses."""
    values: dict[str, Any] = {}
    for name, value in run.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, Mapping):
            values.update(flat(value, f"{dotted}."))
        elif isinstance(value, (list, tuple)):
            if dotted in LAST_OF and value and isinstance(value[-1], (int, float)):
                values[LAST_OF[dotted]] = value[-1]
        elif isinstance(value, str) and is_name(name):
            values[dotted] = named_in(value)
        else:
            values[dotted] = plain(value)
    return values


def trainer_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The run of a `trainer_state.json`: the last of all that was logged, but for what its schedule was at."""
    entries = [entry for entry in state.get("log_history") or () if isinstance(entry, Mapping)]
    own_rates = ("learning_rate", "grad_norm")
    steps = [flat({name: value for name, value in entry.items() if name not in own_rates}) for entry in entries]
    own = {name: value for name, value in state.items() if name != "log_history"}
    params = own.pop("trial_params", None)
    values = {**flat(own), **last_of(steps), **flat(params if isinstance(params, Mapping) else {})}
    return values | ({STEPS: steps} if steps else {})


def last_of(steps: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each column the last value, whichever step it was logged at."""
    last: dict[str, Any] = {}
    for step in steps:
        last |= step
    return last


def plain(value: Any) -> Any:
    """A number, text, true/false or None. Numbers in quotes are numbers; other libraries' numbers are Python's."""
    if isinstance(value, str):
        read = value_of(value)
        return read if is_number(read) else value.strip() or None
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > MOST_BITS:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return float(value)  # numpy's is one too, but is written otherwise
    if value is None or isinstance(value, (bool, int)):
        return value
    return plain(value.item()) if hasattr(value, "item") else str(value)


def _integer(text: str) -> int | str:
    """One that no count or setting is so long as is a name."""
    return int(text) if len(text) <= LONGEST_INTEGER else text


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text, parse_int=_integer)
    except (json.JSONDecodeError, RecursionError) as error:
        what = f"{error.msg}, line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise TableError(f"{place}: not valid JSON ({what}); mend it") from None


def _objects(document: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(document, list):
        yield from ((f"run {number}", run) for number, run in enumerate(document, 1))
        return
    if not isinstance(document, dict) or not document:
        what = "empty" if not document else type(document).__name__
        raise TableError(f"{place}: {what}; a table is a list of runs, each an object; write it so")
    if isinstance(document.get("log_history"), list):
        yield "", document
        return
    listed = next((key for key in LISTS if isinstance(document.get(key), list)), None)
    if listed is not None:
        yield from _objects(document[listed], place)
    elif all(isinstance(value, list) for value in document.values()):
        yield from _columns(document, place)
    elif all(isinstance(value, dict) for value in document.values()) and not _is_one_run(document):
        if all(key.isdigit() for column in document.values() for key in column):  # as pandas writes a frame
            keys = list(dict.fromkeys(key for column in document.values() for key in column))
            yield from ((f"run {key}", {n: c.get(key) for n, c in document.items()}) for key in keys)
        else:
            yield from ((f'"{name}"', {"name": name, **run}) for name, run in document.items())
    else:
        yield "", document


def _is_one_run(document: dict[str, Any]) -> bool:
    return all(folded(name) in WRAPPERS for name in document)


def _columns(document: dict[str, list[Any]], place: str) -> Iterator[tuple[str, Any]]:
    lengths = {len(values) for values in document.values()}
    if len(lengths) > 1:
        raise TableError(
            f"{place}: lists of {min(lengths)} to {max(lengths)} values; columns must be equally long; mend them"
        )
    for number, values in enumerate(zip(*document.values(), strict=True), 1):
        yield f"run {number}", dict(zip(document, values, strict=True))


def _own_runs(document: dict[str, Any], place: str) -> Iterator[Placed]:
    """A report's results.json: settings and metrics without prefix, the rest of the recipe under its dotted names."""
    runs = document.get("runs")
    if not isinstance(runs, list):
        raise TableError(f'{place} "runs": {type(runs).__name__}; must be a list of runs; write it anew')
    for number, run in enumerate(runs, 1):
        if not isinstance(run, dict):
            raise TableError(f"{place} run {number}: {type(run).__name__}; each run must be an object; write it anew")
        recipe, provenance, settings, metrics = (
            part if isinstance(part := run.get(name), dict) else {}
            for name in ("recipe", "provenance", "settings", "metrics")
        )
        named = {name: run.get(name) for name in ("arm", "seed", "stage", "status", "train_seconds")}
        counts = {name: run.get(name) or None for name in ("updates", "tokens", "flops")}
        read = {
            **{name: value for name, value in recipe.items() if name != "seed"},
            **settings,
            **metrics,
            **named,
            **counts,
            "eval_hash": provenance.get("evaluation_digest"),
        }
        yield f"run {number}", flat(read)


# --- Files of other tools ---

SQLITE = b"SQLite format 3\0"
"""How a database file begins."""


def place_of(folder: Path, root: Path) -> str:
    """What a run in a folder is called: the folder below `root`, or its own name."""
    if folder == root or not folder.is_relative_to(root):
        return folder.absolute().name
    return folder.relative_to(root).as_posix()


def json_object(path: Path) -> dict[str, Any]:
    """Raises: TableError if the file is no JSON object."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise TableError(f"{path}: not a JSON object; it must be as its tool wrote it; restore it")
    return read


def logged_in_csv(path: Path) -> list[dict[str, Any]]:
    """What each row of a tool's CSV says; empty cells say nothing."""
    try:
        return [
            {name: value_of(cell) for name, cell in row.items() if name and isinstance(cell, str) and cell.strip()}
            for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")))
        ]
    except csv.Error as broken:
        raise TableError(f"{path}: {broken}; it must be as its tool wrote it; restore it") from None


def logged_in_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a tool's log; none where there is no such file. A line that a kill has torn says nothing."""
    said: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            one = json.loads(text)
        except (ValueError, RecursionError):
            continue
        said += [one] if isinstance(one, dict) else []
    return said


def yaml_mapping(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, empty where there is none; without its library, those of plain keys and values."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    try:
        import yaml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return _plain_yaml(text, path)

    class Plain(yaml.SafeLoader):
        """What is an object of a program is missing."""

    Plain.add_multi_constructor("", lambda *_: None)
    try:
        read = yaml.load(text, Plain) or {}
    except yaml.YAMLError:
        raise TableError(f"{path}: not plain YAML; it must be as its tool wrote it; restore it") from None
    return read if isinstance(read, dict) else {}


def _plain_yaml(text: str, path: Path) -> dict[str, Any]:
    """`key: value` lines, nested by their indentation; lists of plain values are left out."""
    root: dict[str, Any] = {}
    open_: list[tuple[int, dict[str, Any]]] = [(-1, root)]
    for line in text.splitlines():
        said = line.split(" #")[0].rstrip()
        if not said.strip() or said.lstrip().startswith(("#", "- ", "---")) or said.strip() in ("-", "{}"):
            continue
        indent, (key, colon, value) = len(said) - len(said.lstrip()), said.strip().partition(":")
        if not colon or value.strip()[:1] in ("|", ">", "&", "*", "!", "{"):
            remedy = "pip install 'blueberry-lm[wandb]', or export the runs as CSV"
            raise TableError(f"{path}: YAML beyond plain keys and values; its library is not installed; {remedy}")
        while open_[-1][0] >= indent:
            open_.pop()
        key = key.strip().strip("'\"")
        if value.strip():
            open_[-1][1][key] = value_of(value.strip().strip("'\""))
        else:
            open_[-1][1][key] = {}
            open_.append((indent, open_[-1][1][key]))
    return root


def is_sqlite(path: Path) -> bool:
    """Whether a regular file is an SQLite database, by how it begins."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


class Database:
    """An SQLite file, read and never written."""

    def __init__(self, path: Path, sql: sqlite3.Connection) -> None:
        self.path = path
        self._sql = sql
        self.tables = frozenset(name for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'"))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Raises: TableError if the file is damaged or lacks a column."""
        try:
            return self._sql.execute(query).fetchall()
        except sqlite3.Error as broken:
            raise TableError(f"{self.path}: {broken}; the database must be as its tool wrote it; restore it") from None

    def has(self, names: Sequence[str]) -> bool:
        return self.tables.issuperset(names)


@contextmanager
def database(path: Path) -> Iterator[Database]:
    """Raises: TableError if it cannot be opened."""
    try:
        opened = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
    except sqlite3.Error as broken:
        raise TableError(f"{path}: {broken}; give a database that can be read") from None
    with closing(opened):
        yield Database(path, opened)
