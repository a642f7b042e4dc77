"""What is known, and who is at work on what (leases): one folder, shared by any number of processes and studies.

`store.sqlite` holds results, failures, claims, studies and the ledger (WAL: keep it on a local disk); beside it lie
`checkpoints/` and `data/`. A result is committed in one transaction, synced to disk, and never changed; so is an
entry of the ledger. Every row but a claim carries a digest of what is in it, so bytes that rot are found when they
are read: a result that was damaged is trained again, nothing is computed from it.

A claim is a lease: its owner renews it with every heartbeat, and loses it when it stays silent for LEASE_SECONDS
or when its process is gone from this host. Claims spare work, they do not guard results: should two owners train
one run after all, its numbers are the same and the store keeps the first.
"""

import json
import os
import shutil
import socket
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from blueberry.errors import StoreError
from blueberry.files import digest
from blueberry.records import Progress, RunResult
from blueberry.study.database import (
    COPY_IT,
    HEAD,
    INSERT,
    EndedRun,
    chunked,
    discard,
    ended_of,
    is_whole,
    open_database,
    row_of,
    sealed,
    speaking,
)

LEASE_SECONDS = 60.0
HEARTBEAT_SECONDS = 2.0
PAST_RUNS = 2_000
"""Whose noise and speed are looked at."""


class DamagedResults(StoreError):
    """Results whose bytes are not what was committed. `Store.discard` makes them runs to do again."""

    def __init__(self, message: str, fingerprints: tuple[str, ...]) -> None:
        super().__init__(message)
        self.fingerprints = fingerprints


@dataclass(frozen=True)
class Owner:
    """One call of `run`."""

    id: str
    host: str
    pid: int

    @classmethod
    def here(cls) -> "Owner":
        """A new owner, in this process."""
        return cls(uuid.uuid4().hex, this_host(), os.getpid())


@dataclass(frozen=True)
class Claim:
    """A run that somebody said to be training."""

    fingerprint: str
    expires: float
    """Seconds since 1970."""
    alive: bool
    """False: its owner is gone, and anybody may take the run over."""
    update: int | None = None
    num_updates: int | None = None
    tokens_per_second: float | None = None


@dataclass(frozen=True)
class Registration:
    """A study that was planned here."""

    path: str
    name: str
    question: str
    runs: Mapping[str, str]
    """All its runs decided so far: fingerprint to arm and seed in words."""
    build: str | None
    """Digest of the built-in trainer as it was then; None: another trainer, or one nobody asked."""


@dataclass(frozen=True)
class LedgerRow:
    """One entry of a line of baselines. What it says is the judge's matter."""

    number: int
    """Counts up over all lines."""
    line: str
    body: str
    """JSON."""

    @property
    def recipe(self) -> dict[str, Any] | None:
        """The complete recipe that is the line's baseline from here on; None: it stays what it is."""
        return json.loads(self.body)["recipe"]


@dataclass(frozen=True)
class BasedOn:
    """Which baseline a study began from, and the seeds it may use."""

    number: int
    """Of the ledger's entry."""
    first_seed: int
    last_seed: int


class Store:
    """One open connection; not shared between threads or processes, each opens its own."""

    def __init__(self, folder: Path, sql: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self.folder = folder
        self.path = folder / "store.sqlite"
        self.checkpoints = folder / "checkpoints"
        self.data = folder / "data"
        self._sql = sql
        self._clock = clock

    @classmethod
    def open(cls, folder: str | Path, *, create: bool = True, clock: Callable[[], float] = time.time) -> "Store":
        """Open the store in a folder; where there is none, make it or, with `create=False`, refuse.

        Raises: StoreError if it cannot be read and written, is damaged, of a later version or not a store.
        """
        folder = Path(folder)
        path = folder / "store.sqlite"
        with speaking(path):
            if not path.exists() and not create:
                raise StoreError(f"{folder}: no store here; blueberry run makes one; run a study, or mend --store")
            for sub in ("checkpoints", "data"):
                (folder / sub).mkdir(parents=True, exist_ok=True)
            return cls(folder, open_database(path), clock)

    def close(self) -> None:
        self._sql.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Results

    def commit(self, result: RunResult, wall_seconds: float | None = None) -> bool:
        """Keep a result for ever, and end the claim on its run. True if it was not known yet.

        A result is immutable: committed again, equal or not (times always differ), the first one stays, unless that
        is damaged. It is on disk when this returns, and the run's checkpoints are gone.
        """
        assert result.status != "failed", "a crash is no result; record_failure keeps it and lets the run be repeated"
        row = row_of(result, result.model_dump_json(), wall_seconds, self._clock())
        name = (result.fingerprint,)
        with self._transaction(durable=True) as sql:
            known = sql.execute(f"SELECT {HEAD}, body FROM results WHERE fingerprint = ?", name).fetchone()
            if new := known is None or not is_whole(known[6], known[:6]):
                if known is not None:
                    discard(sql, name)
                sql.execute(INSERT, row)
            sql.execute("DELETE FROM failures WHERE fingerprint = ?", name)
            sql.execute("DELETE FROM claims WHERE fingerprint = ?", name)
        shutil.rmtree(self.checkpoints / result.fingerprint, ignore_errors=True)
        return new

    def results(self, fingerprints: Iterable[str]) -> dict[str, RunResult]:
        """Those of the runs that have ended, by fingerprint. Raises: DamagedResults, other StoreError."""
        found: dict[str, RunResult] = {}
        damaged: list[str] = []
        for *head, body in self._select(f"{HEAD}, body", "results", fingerprints):
            try:
                if not is_whole(body, head):
                    raise ValueError
                found[head[0]] = RunResult.model_validate_json(body)
            except ValueError:
                damaged.append(head[0])
        self._refuse_damaged(damaged)
        return found

    def fingerprints(self) -> tuple[str, ...]:
        """Of every run that has ended, in that order."""
        with speaking(self.path):
            return tuple(name for (name,) in self._sql.execute("SELECT fingerprint FROM results ORDER BY rowid"))

    def ended(self, fingerprints: Iterable[str]) -> dict[str, EndedRun]:
        """How those of the runs ended that have, by fingerprint. Reads no curves. Raises as `results`."""
        found = {row[0]: ended_of(row) for row in self._select(HEAD, "results", fingerprints)}
        self._refuse_damaged([name for name, one in found.items() if one is None])
        return {name: one for name, one in found.items() if one is not None}

    def past_runs(self, most: int = PAST_RUNS) -> tuple[EndedRun, ...]:
        """The latest results of all studies, the newest first, with their recipes. Damaged ones are not in it."""
        query = (
            f"SELECT CASE WHEN json_valid(body) THEN json_extract(body, '$.recipe') END, body, {HEAD} FROM results"
            " ORDER BY rowid DESC LIMIT ?"
        )
        with speaking(self.path):
            rows = [
                (recipe, ended_of(head))
                for recipe, body, *head in self._sql.execute(query, (most,))
                if is_whole(body, head)
            ]
        return tuple(replace(one, recipe=json.loads(recipe)) for recipe, one in rows if one is not None)

    def discard(self, fingerprints: Sequence[str]) -> None:
        """Forget results, damaged or unwanted: their runs are to do again."""
        with self._transaction(durable=True) as sql:
            discard(sql, fingerprints)

    def record_failure(self, failed: RunResult) -> None:
        """Remember how a run crashed last, for `status`. It stays to do; a result wipes it out."""
        assert failed.status == "failed"
        body = failed.model_dump_json()
        with self._transaction(durable=True) as sql:
            row = (failed.fingerprint, digest(failed.fingerprint, body), body)
            sql.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", row)

    def failures(self, fingerprints: Iterable[str]) -> dict[str, RunResult]:
        """How those of the runs crashed that crashed and have not ended since; a damaged row says nothing."""
        rows = self._select("fingerprint, digest, body", "failures", fingerprints)
        return {
            name: RunResult.model_validate_json(body) for name, sealed, body in rows if digest(name, body) == sealed
        }

    # Claims

    def claim(self, fingerprints: Sequence[str], owner: Owner) -> tuple[str, ...] | None:
        """Take the runs of a group, all or none: those without a result, which may be none of them.

        None if a living owner holds any of these. Abandoned claims are taken over.
        """
        with self._transaction() as sql:
            ended = {name for (name,) in chunked(sql, "fingerprint", "results", fingerprints)}
            missing = tuple(name for name in fingerprints if name not in ended)
            now = self._clock()
            for holder, host, pid, expires in chunked(sql, "owner, host, pid, expires", "claims", missing):
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
        query = (  # bytes that rot may change what a column holds: none of this is worth more than a wrong number
            "SELECT CAST(fingerprint AS TEXT), CAST(host AS TEXT), pid, expires,"
            " CAST(progress_update AS INTEGER), CAST(num_updates AS INTEGER), CAST(tokens_per_second AS REAL)"
            " FROM claims ORDER BY fingerprint"
        )
        with speaking(self.path):
            rows = self._sql.execute(query).fetchall()
        now = self._clock()
        return tuple(
            Claim(name, expires, not is_abandoned(host, pid, expires, now), *progress)
            for name, host, pid, expires, *progress in rows
        )

    # Studies

    def register(self, path: Path, name: str, question: str, runs: Mapping[str, str], build: str | None = None) -> None:
        """Remember a study by its file, so that its runs can be counted and named when the file is gone."""
        row = (str(path.absolute()), name, question, json.dumps(dict(runs)), self._clock(), build)
        with self._transaction() as sql:
            sql.execute("INSERT OR REPLACE INTO studies VALUES (?, ?, ?, ?, ?, ?, ?)", sealed(row))

    def studies(self) -> tuple[Registration, ...]:
        """Every study registered here, the oldest registration first."""
        rows = self._rows("studies", "SELECT * FROM studies ORDER BY registered_at, path")
        return tuple(
            Registration(path, name, question, json.loads(runs), build) for path, name, question, runs, _, build in rows
        )

    # The ledger: appended to, never changed

    def ledger(self, line: str | None = None) -> tuple[LedgerRow, ...]:
        """Every entry, or those of one line; the oldest first."""
        rows = self._rows("ledger", "SELECT * FROM ledger ORDER BY number")
        return tuple(LedgerRow(number, of, body) for number, of, _, body in rows if line in (None, of))

    def append_to_ledger(self, line: str, body: str, *, after: int | None) -> int | None:
        """Append an entry and return its number; None, and nothing is written, unless `after` is the line's newest.

        So what was decided from the line as it was read is written only if the line is still that.
        """
        with self._transaction(durable=True) as sql:
            (newest,) = sql.execute("SELECT max(number) FROM ledger WHERE line = ?", (line,)).fetchone()
            if newest != after:
                return None
            (number,) = sql.execute("SELECT coalesce(max(number), 0) + 1 FROM ledger").fetchone()
            sql.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?)", sealed((number, line, self._clock(), body)))
            return number

    def remember_base(self, path: Path, based_on: BasedOn) -> None:
        """Remember from which baseline a study file began, the first time; from then on it keeps that one."""
        row = (str(path.absolute()), based_on.number, based_on.first_seed, based_on.last_seed)
        with self._transaction() as sql:
            sql.execute("INSERT OR IGNORE INTO bases VALUES (?, ?, ?, ?, ?)", sealed(row))

    def bases(self) -> dict[str, BasedOn]:
        """Of every study that began from a baseline, by the absolute path of its file."""
        return {path: BasedOn(*row) for path, *row in self._rows("bases", "SELECT * FROM bases")}

    def _rows(self, table: str, query: str) -> list[tuple[Any, ...]]:
        """Of a table whose last column is the digest of the others. Raises: StoreError if one was damaged."""
        with speaking(self.path):
            rows = self._sql.execute(query).fetchall()
        if any(sealed(row[:-1]) != row for row in rows):
            raise StoreError(f"{self.path}: a row of the table {table} is damaged; its bytes have changed; {COPY_IT}")
        return [row[:-1] for row in rows]

    def _select(self, columns: str, table: str, fingerprints: Iterable[str]) -> list[Any]:
        with speaking(self.path):
            return list(chunked(self._sql, columns, table, list(fingerprints)))

    def _refuse_damaged(self, names: Sequence[str]) -> None:
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise DamagedResults(
                f"{self.path}: the result of run {self._label(names[0])}{more} is damaged; its bytes are no longer "
                f"what was committed; blueberry run trains it again, or {COPY_IT}",
                tuple(names),
            )

    def _label(self, name: str) -> str:
        """A run as a person calls it, if a study here has it."""
        try:
            labels = [one.runs[name] for one in self.studies() if one.runs.get(name)]
        except StoreError:
            labels = []
        return f"{name} ({labels[-1]})" if labels else name

    @contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """All or nothing, alone in writing. Every commit survives the death of the process at any moment.

        A durable one is also synced (some 5 ms), and survives the loss of power.
        """
        with speaking(self.path):
            if not self.path.is_file():  # else we would go on writing to a file that has no name any more
                raise StoreError(
                    f"{self.path}: is gone; what ended since cannot be kept; restore it, or run the study again"
                )
            self._sql.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield self._sql
                self._sql.execute("COMMIT")
            except BaseException:
                if self._sql.in_transaction:  # SQLite has rolled back by itself after some errors
                    self._sql.execute("ROLLBACK")
                raise


class Results(Mapping[str, RunResult]):
    """The results of some runs of an open store, by fingerprint: a study may have more of them than memory holds.

    Each is read when it is asked for, and then forgotten, so ask for nothing twice. Raises: DamagedResults, StoreError.
    """

    def __init__(
        self, store: Store, fingerprints: Iterable[str], crashed: Mapping[str, RunResult] | None = None
    ) -> None:
        """All of them must have ended; `crashed` are further runs, that were given up."""
        self._store = store
        self._crashed = dict(crashed or {})
        self._names = dict.fromkeys([*fingerprints, *self._crashed])

    def __getitem__(self, fingerprint: str) -> RunResult:
        if fingerprint in self._crashed:
            return self._crashed[fingerprint]
        if fingerprint not in self._names:
            raise KeyError(fingerprint)
        return self._store.results([fingerprint])[fingerprint]

    def __contains__(self, fingerprint: object) -> bool:
        return fingerprint in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def is_abandoned(host: object, pid: object, expires: object, now: float) -> bool:
    """Whether a claim may be taken over. One whose bytes are damaged claims nothing.

    A lease is never granted for more than LEASE_SECONDS. One that lies further ahead was granted before the clock
    was set back; it is void, or else it would hold its run for as long as the clock was moved. Its owner, if it
    lives, has a lease by the new clock after its next heartbeat.
    """
    if not isinstance(expires, (int, float)) or not isinstance(pid, int):
        return True
    if expires <= now or expires > now + 2 * LEASE_SECONDS:
        return True
    return host == this_host() and not _is_running(pid)


@cache
def this_host() -> str:
    """Names the machine and, where there are such, the container: process numbers mean nothing in another one."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
