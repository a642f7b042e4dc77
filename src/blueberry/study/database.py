"""The file of a store: its tables, their rows with digests, and how a file of them is made, opened and upgraded."""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from blueberry.errors import StoreError
from blueberry.files import digest, lock, partial_folder
from blueberry.records import MEASURED, RunResult

VERSION = 3
"""Of the tables below. An older store is brought to it when it is opened; one of a later version is refused."""
APPLICATION_ID = 0x424C5545
"""Marks the file as ours ("BLUE")."""
QUERY_NAMES = 500
"""Fingerprints in one query."""
BUSY_SECONDS = 30
"""How long a transaction waits for those of other processes."""
_TABLES = """
CREATE TABLE results (
    fingerprint TEXT PRIMARY KEY, status TEXT NOT NULL, metrics TEXT NOT NULL, facts TEXT NOT NULL,
    body_digest TEXT NOT NULL, digest TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE failures (fingerprint TEXT PRIMARY KEY, digest TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE claims (
    fingerprint TEXT PRIMARY KEY, owner TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    expires REAL NOT NULL, progress_update INTEGER, num_updates INTEGER, tokens_per_second REAL);
CREATE TABLE studies (
    path TEXT PRIMARY KEY, name TEXT NOT NULL, question TEXT NOT NULL, runs TEXT NOT NULL,
    registered_at REAL NOT NULL, build TEXT, digest TEXT NOT NULL);
CREATE TABLE ledger (
    number INTEGER PRIMARY KEY, line TEXT NOT NULL, appended_at REAL NOT NULL, body TEXT NOT NULL,
    digest TEXT NOT NULL);
CREATE TABLE bases (
    path TEXT PRIMARY KEY, number INTEGER NOT NULL, first_seed INTEGER NOT NULL, last_seed INTEGER NOT NULL,
    digest TEXT NOT NULL);
"""
HEAD = "fingerprint, status, metrics, facts, body_digest, digest"
"""Of a result: all but its body, which lies on pages of its own."""
INSERT = "INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?)"
COPY_IT = "restore the store from a copy, or use another --store"
_WRITABLE = (
    "it must be readable and writable; change its permissions, copy the folder to a disk that can be written, or use "
    "another --store"
)
_ADVICE = {
    sqlite3.SQLITE_NOTADB: "it is not a database, or damaged; move it away, or use another --store",
    sqlite3.SQLITE_CORRUPT: f"the database is damaged; {COPY_IT}",
    sqlite3.SQLITE_FULL: "the disk is full; make room and run again",
    sqlite3.SQLITE_READONLY: _WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _WRITABLE,
    sqlite3.SQLITE_BUSY: f"another process held it for {BUSY_SECONDS} s; wait for that one and run again",
}


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that has ended, without its curves: what a plan, a forecast and the noise of its kind need of it."""

    status: str
    """completed or diverged."""
    metrics: Mapping[str, float]
    """By every name that `RunResult.metric` knows; what was not measured is not in it."""
    num_updates: int | None = None
    num_flops: float | None = None
    """None where nobody counted."""
    own_fraction: float = 1.0
    """Of its updates and its training time, what it did not take over from another run."""
    wall_seconds: float | None = None
    """Of a worker: start-up, evaluations and all, as its share of its group; None where nobody measured it."""
    data_digest: str | None = None
    code_digest: str | None = None
    device: str | None = None
    """What computed it; None where the trainer did not say."""
    committed_at: float | None = None
    """Seconds since 1970."""
    recipe: Mapping[str, Any] | None = None
    """Flat; read for `past_runs` only."""

    def metric(self, name: str) -> float | None:
        """As `RunResult.metric`."""
        return self.metrics.get(name)


def num_of_other_builds(ended: Iterable[EndedRun], build: str | None) -> int:
    """How many of the runs another build of the trainer than this one computed. None: no build is known."""
    return sum(build is not None and one.code_digest not in (None, build) for one in ended)


def open_database(path: Path) -> sqlite3.Connection:
    """A connection to the database of a store, which is made where there is none.

    Raises: StoreError if it is empty, none of ours or of a later version; what SQLite and the file system raise.
    """
    if not path.exists():
        _create(path)
    if path.is_file() and not path.stat().st_size:
        raise StoreError(f"{path}: an empty file; a store never is one, so its content was lost; {COPY_IT}")
    sql = _connect(path)
    try:
        _prepare(sql, path)
    except BaseException:
        sql.close()
        raise
    return sql


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are begun by hand: Python's own begin too late to be IMMEDIATE.
    sql = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    sql.text_factory = lambda raw: raw.decode(errors="replace")  # text that is none is damage, and a digest says so
    return sql


def _create(path: Path) -> None:
    """A store with all its tables at once: killed on the way, there is none."""
    with lock(path.parent), partial_folder(path.parent) as folder:
        if path.exists():
            return
        with closing(_connect(folder / path.name)) as sql:
            sql.execute("BEGIN")
            _make_tables(sql)
            sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            sql.execute("COMMIT")
            sql.execute("PRAGMA journal_mode = WAL")
        (folder / path.name).replace(path)


def _prepare(sql: sqlite3.Connection, path: Path) -> None:
    """Check that the file is a store, and bring an older one to this version.

    Raises: StoreError if it is none of ours, or of a later version.
    """
    version, application, num_tables = _identity(sql)
    if application != APPLICATION_ID and (num_tables or version):
        raise StoreError(f"{path}: a database of another program; a store must be Blueberry's; use another --store")
    if version > VERSION:
        known = f"this version of Blueberry knows {VERSION}"
        raise StoreError(f"{path}: a store of version {version}; {known}; update Blueberry, or use another --store")
    if version < 1 or not num_tables:
        raise StoreError(f"{path}: has no tables; a store is never without, so its content was lost; {COPY_IT}")
    _write_ahead(sql)
    if version < VERSION:
        sql.execute("BEGIN IMMEDIATE")
        if _identity(sql)[0] < VERSION:  # another process may have done it since we looked
            _upgrade(sql)
        sql.execute("COMMIT")


def _identity(sql: sqlite3.Connection) -> tuple[int, int, int]:
    version = sql.execute("PRAGMA user_version").fetchone()[0]
    application = sql.execute("PRAGMA application_id").fetchone()[0]
    return version, application, sql.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _make_tables(sql: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";")[:-1]:
        sql.execute(statement)
    sql.execute(f"PRAGMA user_version = {VERSION}")


def _write_ahead(sql: sqlite3.Connection) -> None:
    """Readers and a writer at once. SQLite does not wait its turn for this one change, so we do."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            sql.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _upgrade(sql: sqlite3.Connection) -> None:
    """All that a store of version 1 (no ledger) or 2 (no digests) holds, moved into the tables of this version.

    What cannot be understood is kept without its digest, so that it is refused when it is read.
    """
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    old = [name for (name,) in sql.execute(query)]
    for name in old:
        sql.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
    _make_tables(sql)
    for name, status, at, body in sql.execute("SELECT fingerprint, status, committed_at, body FROM old_results"):
        try:
            row = row_of(RunResult.model_validate_json(body), body, None, at)
        except ValueError:
            row = (name, status, "{}", "{}", "", "", body)
        sql.execute(INSERT, row)
    for name, body in sql.execute("SELECT fingerprint, body FROM old_failures"):
        sql.execute("INSERT INTO failures VALUES (?, ?, ?)", (name, digest(name, body), body))
    sql.execute("INSERT INTO claims SELECT * FROM old_claims")
    for path, name, question, names, at in sql.execute("SELECT * FROM old_studies"):
        try:
            row = sealed((path, name, question, json.dumps(dict.fromkeys(json.loads(names), "")), at, None))
        except (ValueError, TypeError):
            row = (path, name, question, names, at, None, "")
        sql.execute("INSERT INTO studies VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    for table in ("ledger", "bases") if "ledger" in old else ():
        for row in sql.execute(f"SELECT * FROM old_{table}"):
            sql.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)", sealed(row))
    for name in old:
        sql.execute(f"DROP TABLE old_{name}")


def row_of(result: RunResult, body: str, wall_seconds: float | None, now: float) -> tuple[str, ...]:
    """Of the table of results: what plans need of it apart from the rest, and a digest of each."""
    own = 1 - result.shared_updates / result.num_updates if result.shared_updates and result.num_updates else 1.0
    made = result.provenance
    facts = {
        "num_updates": result.num_updates,
        "num_flops": result.num_flops,
        "own_fraction": own,
        "wall_seconds": wall_seconds,
        "data_digest": made and made.data_digest,
        "code_digest": made and made.code_digest,
        "device": made and made.device,
        "committed_at": now,
    }
    head = (result.fingerprint, result.status, json.dumps(_metrics(result)), json.dumps(facts), digest(body))
    return (*sealed(head), body)


def _metrics(result: RunResult) -> dict[str, float]:
    """Everything that `RunResult.metric` can be asked for and has."""
    names = [f"{which}_{what}" for which in ("val", "test") for what in MEASURED]
    names += [f"sets.{name}.{what}" for name in result.sets for what in MEASURED]
    names += ["train_loss", "train_seconds", *result.extra]
    return {name: value for name in names if (value := result.metric(name)) is not None}


def ended_of(head: Sequence[Any]) -> EndedRun | None:
    """A row's columns `HEAD`; None if it is damaged."""
    if sealed(head[:5]) != tuple(head):
        return None
    return EndedRun(head[1], from_json(head[2]), **from_json(head[3]))


def is_whole(body: object, head: Sequence[Any]) -> bool:
    """Whether a result's body and its other columns are what was committed."""
    return isinstance(body, str) and digest(body) == head[4] and sealed(head[:5]) == tuple(head)


def sealed(row: Sequence[Any]) -> tuple[Any, ...]:
    """A row with the digest of what is in it, whatever that is."""
    return (*row, digest(*map(ascii, row)))


def discard(sql: sqlite3.Connection, fingerprints: Sequence[str]) -> None:
    sql.execute("REINDEX results")  # the bytes that were damaged may be those of a key
    sql.executemany("DELETE FROM results WHERE fingerprint = ?", [(name,) for name in fingerprints])


def chunked(sql: sqlite3.Connection, columns: str, table: str, fingerprints: Sequence[str]) -> Iterator[Any]:
    for start in range(0, len(fingerprints), QUERY_NAMES):
        names = fingerprints[start : start + QUERY_NAMES]
        marks = ", ".join("?" * len(names))
        yield from sql.execute(f"SELECT {columns} FROM {table} WHERE fingerprint IN ({marks})", tuple(names))


@contextmanager
def speaking(path: Path) -> Iterator[None]:
    """Turns what SQLite and the file system raise into one line."""
    try:
        yield
    except sqlite3.Error as error:
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of the code is detail
        advice = _ADVICE.get(primary, f"the disk fails, or the database is damaged; {COPY_IT}")
        raise StoreError(f"{path}: {' '.join(str(error).split())[:200]}; {advice}") from None
    except OSError as error:
        remedy = "a store needs a folder it can write to; mend --store"
        raise StoreError(f"{path}: {error.strerror or error}; {remedy}") from None
