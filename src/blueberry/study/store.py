"""What is known and who is at work on what: one folder, shared by any number of processes of one or many studies.

`store.sqlite` holds results, failures, claims, studies and the ledger (WAL: keep it on a local disk); beside it lie
`checkpoints/` and `data/`. A result is committed in one transaction, synced to disk, and never changed; so is an
entry of the ledger.
"""

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from blueberry.errors import StoreError
from blueberry.records import Progress, RunResult
from blueberry.study.claims import LEASE_SECONDS, Claim, Owner, is_abandoned
from blueberry.study.lines import BasedOn, LedgerRow
from blueberry.study.schema import BUSY_SECONDS, COPY_IT, prepare
from blueberry.study.scores import PastRun, Score, read_scores

QUERY_NAMES = 500
"""Fingerprints in one query."""
PAST_RUNS = 2_000
"""Whose noise is looked at."""

_ADVICE = {
    sqlite3.SQLITE_NOTADB: "it is not a database, or damaged; move it away, or use another --store",
    sqlite3.SQLITE_CORRUPT: "the database is damaged; restore it from a copy, or use another --store",
    sqlite3.SQLITE_FULL: "the disk is full; make room and run again",
    sqlite3.SQLITE_READONLY: "it must be writable; change its permissions, or use another --store",
    sqlite3.SQLITE_CANTOPEN: "it must be readable and writable; change its permissions, or use another --store",
    sqlite3.SQLITE_BUSY: f"another process held it for {BUSY_SECONDS} s; wait for that one and run again",
}


@dataclass(frozen=True)
class Registration:
    """A study that was planned here."""

    path: str
    name: str
    question: str
    fingerprints: tuple[str, ...]
    """Of all its runs decided so far."""
    registered_at: float
    """Seconds since 1970."""


class Store:
    """One open connection; not shared between threads or processes, each opens its own."""

    def __init__(self, folder: Path, sql: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.data = folder / "data"
        self._sql = sql
        self._clock = clock

    @classmethod
    def open(cls, folder: str | Path, *, create: bool = True, clock: Callable[[], float] = time.time) -> "Store":
        """Open the store in a folder; where there is none, make it or, with `create=False`, refuse.

        With `create=False` one that may not be written is opened too, and can be read.
        Raises: StoreError if it cannot be read and written, is damaged, of a later version or not a store.
        """
        folder = Path(folder)
        path = folder / "store.sqlite"
        if not create and not path.is_file():
            raise StoreError(f"{folder}: no store here; blueberry run makes one; run a study, or mend --store")
        may_write = create or os.access(folder, os.W_OK)
        with _speaking(path):
            if may_write:
                for sub in ("checkpoints", "data"):
                    (folder / sub).mkdir(parents=True, exist_ok=True)
            # Transactions are begun by hand: Python's own begin too late to be IMMEDIATE.
            where = path if may_write else _unchanging(path)
            sql = sqlite3.connect(where, timeout=BUSY_SECONDS, isolation_level=None, uri=not may_write)
            try:
                prepare(sql, path, may_write=may_write)
            except BaseException:
                sql.close()
                raise
        return cls(folder, sql, clock)

    def close(self) -> None:
        self._sql.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """Of the database."""
        return self.folder / "store.sqlite"

    # Results

    def results(self, fingerprints: Iterable[str]) -> dict[str, RunResult]:
        """Those of the runs that have ended, by fingerprint."""
        return self._bodies("results", fingerprints)

    def scores(self, fingerprints: Iterable[str], metric: str) -> dict[str, Score]:
        """How those of the runs ended that have, and what they measured by a study's metric. Reads no curves."""
        asked = list(fingerprints)
        try:
            return read_scores(lambda columns, names: self._select(columns, "results", names), asked, metric)
        except StoreError:
            self.results(asked)  # which says of a damaged one what is wrong with it
            raise

    def statuses(self, fingerprints: Iterable[str]) -> dict[str, str]:
        """How those of the runs ended that have: completed or diverged. Cheaper than `results`."""
        return dict(self._select("fingerprint, status", "results", fingerprints))

    def commit(self, result: RunResult) -> bool:
        """Keep a result for ever, and end the claim on its run. True if it was not known yet.

        A result is immutable: committed again, equal or not (times always differ), the first one stays. It
        is on disk when this returns, and the run's checkpoints are gone.
        """
        assert result.status != "failed", "a crash is no result; record_failure keeps it and lets the run be repeated"
        loss = result.final.loss if result.final else None
        row = (
            result.fingerprint, result.status, loss, result.num_updates or 0, result.num_tokens or 0,
            result.num_flops or 0.0, result.train_seconds, self._clock(), result.model_dump_json(),
        )  # fmt: skip
        with self._transaction(durable=True) as sql:
            new = sql.execute("INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row).rowcount == 1
            sql.execute("DELETE FROM failures WHERE fingerprint = ?", (result.fingerprint,))
            sql.execute("DELETE FROM claims WHERE fingerprint = ?", (result.fingerprint,))
        shutil.rmtree(self.checkpoints / result.fingerprint, ignore_errors=True)
        return new

    def flops_per_second(self) -> float | None:
        """One worker's speed: the median over the latest runs, evaluations excluded; None before the first."""
        query = (
            "SELECT num_flops / train_seconds FROM results WHERE train_seconds > 0 AND num_flops > 0"
            " ORDER BY rowid DESC LIMIT 100"
        )
        with _speaking(self.path):
            speeds = sorted(speed for (speed,) in self._sql.execute(query))
        return speeds[len(speeds) // 2] if speeds else None

    def past_runs(self, most: int = PAST_RUNS) -> tuple[PastRun, ...]:
        """The latest results of all studies, without their curves."""
        query = (
            "SELECT status, json_extract(body, '$.recipe', '$.final', '$.provenance.data_digest') FROM results"
            " ORDER BY rowid DESC LIMIT ?"
        )
        with _speaking(self.path):
            rows = self._sql.execute(query, (most,)).fetchall()
        return tuple(
            PastRun(recipe, status, final, data_digest)
            for status, body in rows
            for recipe, final, data_digest in [json.loads(body)]
        )

    def record_failure(self, failed: RunResult) -> None:
        """Remember how a run crashed last, for `status`. It stays to do; a result wipes it out."""
        assert failed.status == "failed"
        row = (failed.fingerprint, self._clock(), failed.model_dump_json())
        with self._transaction(durable=True) as sql:
            sql.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", row)

    def failures(self, fingerprints: Iterable[str]) -> dict[str, RunResult]:
        """How those of the runs crashed that crashed and have not ended since."""
        return self._bodies("failures", fingerprints)

    # Claims: see blueberry.study.claims

    def claim(self, fingerprints: Sequence[str], owner: Owner) -> tuple[str, ...] | None:
        """Take the runs of a group, all or none: those without a result, which may be none of them.

        None if a living owner holds any of these. Abandoned claims are taken over.
        """
        with self._transaction() as sql:
            ended = {name for (name,) in _chunked(sql, "fingerprint", "results", fingerprints)}
            missing = tuple(name for name in fingerprints if name not in ended)
            now = self._clock()
            for holder, host, pid, expires in _chunked(sql, "owner, host, pid, expires", "claims", missing):
                if holder != owner.id and not is_abandoned(host, pid, expires, now):
                    return None
            sql.executemany(
                "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL)",
                [(name, owner.id, owner.host, owner.pid, now + LEASE_SECONDS) for name in missing],
            )
        return missing

    def heartbeat(self, owner: Owner, progress: Iterable[Progress] = ()) -> None:
        """Renew the lease of everything the owner holds, and say how far it is."""
        with self._transaction() as sql:
            sql.execute("UPDATE claims SET expires = ? WHERE owner = ?", (self._clock() + LEASE_SECONDS, owner.id))
            sql.executemany(
                "UPDATE claims SET progress_update = ?, num_updates = ?, tokens_per_second = ?"
                " WHERE fingerprint = ? AND owner = ?",
                [
                    (said.update, said.num_updates, said.tokens_per_second, name, owner.id)
                    for said in progress
                    for name in said.fingerprints
                ],
            )

    def release(self, owner: Owner, fingerprints: Sequence[str] | None = None) -> None:
        """Give up these claims, or all that the owner holds."""
        with self._transaction() as sql:
            if fingerprints is None:
                sql.execute("DELETE FROM claims WHERE owner = ?", (owner.id,))
            else:
                sql.executemany(
                    "DELETE FROM claims WHERE fingerprint = ? AND owner = ?", [(n, owner.id) for n in fingerprints]
                )

    def claims(self) -> tuple[Claim, ...]:
        """Every claim, the abandoned ones too (`alive` is False), in order of fingerprint."""
        with _speaking(self.path):
            rows = self._sql.execute("SELECT * FROM claims ORDER BY fingerprint").fetchall()
        now = self._clock()
        return tuple(
            Claim(name, Owner(owner, host, pid), expires, not is_abandoned(host, pid, expires, now), *progress)
            for name, owner, host, pid, expires, *progress in rows
        )

    # Studies

    def register(self, path: Path, name: str, question: str, fingerprints: Sequence[str]) -> None:
        """Remember a study by its file, so that its runs can be counted when the file is gone."""
        row = (str(path.absolute()), name, question, json.dumps(list(fingerprints)), self._clock())
        with self._transaction() as sql:
            sql.execute("INSERT OR REPLACE INTO studies VALUES (?, ?, ?, ?, ?)", row)

    def studies(self) -> tuple[Registration, ...]:
        """Every study registered here, the oldest registration first."""
        query = "SELECT path, name, question, fingerprints, registered_at FROM studies ORDER BY registered_at, path"
        with _speaking(self.path):
            rows = self._sql.execute(query).fetchall()
        return tuple(Registration(p, name, said, tuple(json.loads(names)), at) for p, name, said, names, at in rows)

    # The ledger: appended to, never changed

    def ledger(self, line: str | None = None) -> tuple[LedgerRow, ...]:
        """Every entry, or those of one line; the oldest first."""
        where, given = ("WHERE line = ?", (line,)) if line is not None else ("", ())
        with _speaking(self.path):
            rows = self._sql.execute(
                f"SELECT number, line, appended_at, body FROM ledger {where} ORDER BY number", given
            )
            return tuple(LedgerRow(*row) for row in rows)

    def append_to_ledger(self, line: str, body: str, *, after: int | None) -> int | None:
        """Append an entry and return its number; None, and nothing is written, unless `after` is the line's newest.

        So what was decided from the line as it was read is written only if the line is still that.
        """
        with self._transaction(durable=True) as sql:
            (newest,) = sql.execute("SELECT max(number) FROM ledger WHERE line = ?", (line,)).fetchone()
            if newest != after:
                return None
            row = (line, self._clock(), body)
            return sql.execute("INSERT INTO ledger (line, appended_at, body) VALUES (?, ?, ?)", row).lastrowid

    def remember_base(self, path: Path, based_on: BasedOn) -> None:
        """Remember from which baseline a study file began, the first time; from then on it keeps that one."""
        row = (str(path.absolute()), based_on.number, based_on.first_seed, based_on.last_seed)
        with self._transaction() as sql:
            sql.execute("INSERT OR IGNORE INTO bases VALUES (?, ?, ?, ?)", row)

    def bases(self) -> dict[str, BasedOn]:
        """Of every study that began from a baseline, by the absolute path of its file."""
        with _speaking(self.path):
            rows = self._sql.execute("SELECT path, number, first_seed, last_seed FROM bases").fetchall()
        return {path: BasedOn(*row) for path, *row in rows}

    def _select(self, columns: str, table: str, fingerprints: Iterable[str]) -> list[Any]:
        with _speaking(self.path):
            return list(_chunked(self._sql, columns, table, list(fingerprints)))

    def _bodies(self, table: str, fingerprints: Iterable[str]) -> dict[str, RunResult]:
        found: dict[str, RunResult] = {}
        for name, body in self._select("fingerprint, body", table, fingerprints):
            try:
                found[name] = RunResult.model_validate_json(body)
            except ValidationError as error:
                what = error.errors()[0]["msg"]
                remedy = "restore the store from a copy, or use another --store"
                raise StoreError(f"{self.path}: run {name} cannot be read ({what}); it is damaged; {remedy}") from None
        return found

    @contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """All or nothing, alone in writing. Every commit survives the death of the process at any moment.

        A durable one is also synced (some 5 ms), and survives the loss of power.
        """
        if not self.path.is_file():  # else we would go on writing to a file that has no name any more
            raise StoreError(
                f"{self.path}: is gone; what ended since cannot be kept; restore it, or run the study again"
            )
        with _speaking(self.path):
            self._sql.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield self._sql
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:  # SQLite has rolled back by itself after some errors
                    self._sql.execute("ROLLBACK")
                raise


def _chunked(sql: sqlite3.Connection, columns: str, table: str, fingerprints: Sequence[str]) -> Iterator[Any]:
    for start in range(0, len(fingerprints), QUERY_NAMES):
        names = fingerprints[start : start + QUERY_NAMES]
        marks = ", ".join("?" * len(names))
        yield from sql.execute(f"SELECT {columns} FROM {table} WHERE fingerprint IN ({marks})", tuple(names))


def _unchanging(path: Path) -> str:
    """The address of a database on a disk that may only be read, where no lock can be held.

    Raises: StoreError if a part of it still lies in its journal.
    """
    journal = path.with_name(f"{path.name}-wal")
    if journal.is_file() and journal.stat().st_size:
        raise StoreError(f"{path}: its last results lie in a journal, and it must be writable to read them; {COPY_IT}")
    return f"{path.absolute().as_uri()}?mode=ro&immutable=1"


@contextmanager
def _speaking(path: Path) -> Iterator[None]:
    """Turns what SQLite and the file system raise into one line."""
    try:
        yield
    except sqlite3.Error as error:
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of the code is detail
        advice = _ADVICE.get(primary, "it must be readable and writable; look at its disk, or use another --store")
        raise StoreError(f"{path}: {' '.join(str(error).split())}; {advice}") from None
    except OSError as error:
        remedy = "a store needs a folder it can write to; mend --store"
        raise StoreError(f"{path}: {error.strerror or error}; {remedy}") from None
