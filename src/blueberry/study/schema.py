"""The tables of a store, and how one of an earlier version becomes one of this."""

import sqlite3
import time
from pathlib import Path

from blueberry.errors import StoreError
from blueberry.study.lines import LEDGER_TABLES

VERSION = 2
"""Of the tables below; a store of a later version is refused."""
APPLICATION_ID = 0x424C5545
"""Marks the file as ours ("BLUE")."""
BUSY_SECONDS = 30
"""How long a transaction waits for those of other processes."""
COPY_IT = "copy the folder to a disk that can be written, and give that to --store"
"""What helps where a store may not be written and would have to be."""

_TABLES = """
CREATE TABLE results (
    fingerprint TEXT PRIMARY KEY, status TEXT NOT NULL, val_loss REAL, num_updates INTEGER NOT NULL,
    num_tokens INTEGER NOT NULL, num_flops REAL NOT NULL, train_seconds REAL NOT NULL,
    committed_at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE failures (fingerprint TEXT PRIMARY KEY, failed_at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE claims (
    fingerprint TEXT PRIMARY KEY, owner TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    expires REAL NOT NULL, progress_update INTEGER, num_updates INTEGER, tokens_per_second REAL);
CREATE TABLE studies (
    path TEXT PRIMARY KEY, name TEXT NOT NULL, question TEXT NOT NULL, fingerprints TEXT NOT NULL,
    registered_at REAL NOT NULL);
"""
_UPGRADES = {1: LEDGER_TABLES}
"""What a store of each older version lacks to be of the next."""


def prepare(sql: sqlite3.Connection, path: Path, *, may_write: bool = True) -> None:
    """Check that the file is a store of this version; make the tables of a new one, and those an older one lacks.

    Raises: StoreError if it is none of ours, of a later version, or of an older one and may not be written.
    """
    version, application, num_tables = _head(sql)
    if application != APPLICATION_ID and (num_tables or version):
        raise StoreError(f"{path}: a database of another program; a store must be Blueberry's; use another --store")
    if version > VERSION:
        known = f"this version of Blueberry knows {VERSION}"
        raise StoreError(f"{path}: a store of version {version}; {known}; update Blueberry, or use another --store")
    if not may_write:
        if version < VERSION:
            raise StoreError(
                f"{path}: a store of version {version}; it must be writable to become one of {VERSION}; {COPY_IT}"
            )
        return
    _write_ahead(sql)
    if num_tables and version == VERSION:
        return
    sql.execute("BEGIN IMMEDIATE")
    version, _, num_tables = _head(sql)  # another process may have made or upgraded it since we looked
    if not num_tables:
        _execute(sql, _TABLES)
        sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        version = 1
    for old in range(version, VERSION):
        _execute(sql, _UPGRADES[old])
    sql.execute(f"PRAGMA user_version = {VERSION}")
    sql.execute("COMMIT")


def _execute(sql: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";")[:-1]:
        sql.execute(statement)


def _head(sql: sqlite3.Connection) -> tuple[int, int, int]:
    version = sql.execute("PRAGMA user_version").fetchone()[0]
    application = sql.execute("PRAGMA application_id").fetchone()[0]
    return version, application, sql.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


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
