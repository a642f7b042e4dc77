"""A folder of prepared entries that may be trusted: whole or absent, whoever writes at once and whenever one is killed.

An entry is a folder of files and a manifest of their sizes and digests. It is written under a temporary name,
synced and renamed; what was damaged later does not agree with the manifest and is written anew.
"""

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blueberry.errors import DataError
from blueberry.identity import canonical_json, digest

MANIFEST = "manifest.json"
_ABANDONED_SECONDS = 24 * 3600
_UNFINISHED = re.compile(r"\.(hub-)?[0-9a-f]+\.[0-9a-f]{32}(\.damaged)?")


def entry(cache_dir: Path, name: str, build: Callable[[Path], None]) -> Path:
    """The folder `cache_dir/name`, whole; built first when it is missing or damaged.

    `build` writes files into the empty folder it is given, the same in every process that asks for this name.
    Raises: DataError, one line, if the folder cannot be written; whatever `build` raises.
    """
    folder = cache_dir / name
    if is_whole(folder):
        return folder
    with writing(cache_dir):
        cache_dir.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(cache_dir)
        unfinished = cache_dir / f".{name}.{uuid.uuid4().hex}"
        unfinished.mkdir()
    try:
        build(unfinished)
        with writing(cache_dir):
            _seal(unfinished, name)
            _install(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def is_whole(folder: Path) -> bool:
    """Whether a folder's files agree with its manifest, and the manifest with itself."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = manifest["files"]
        return manifest["digest"] == _manifest_digest(folder.name, files) and all(
            (folder / name).stat().st_size == said["bytes"] and _sha256(folder / name) == said["sha256"]
            for name, said in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _seal(folder: Path, name: str) -> None:
    """Sync the files of a folder and write their manifest."""
    said = {}
    for path in sorted(folder.iterdir()):
        said[path.name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        _sync(path)
    manifest = folder / MANIFEST
    manifest.write_text(canonical_json({"files": said, "digest": _manifest_digest(name, said)}), encoding="utf-8")
    _sync(manifest)
    _sync(folder)


def _manifest_digest(name: str, files: dict[str, dict[str, int | str]]) -> str:
    """Of the entry's name too: an entry under another's name is not whole."""
    return digest(name, canonical_json(files))


def _install(unfinished: Path, folder: Path) -> None:
    """Give a finished folder its name, unless another process was first with a whole one."""
    with _alone(folder.parent):
        if is_whole(folder):
            return
        if folder.exists():
            damaged = unfinished.with_name(f"{unfinished.name}.damaged")
            folder.rename(damaged)
            shutil.rmtree(damaged)
        unfinished.rename(folder)
        _sync(folder.parent)


@contextmanager
def _alone(cache_dir: Path) -> Iterator[None]:
    """One process at a time, so that none moves away what another has just made whole. A kill ends the lock."""
    import fcntl

    descriptor = os.open(cache_dir, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(cache_dir: Path) -> None:
    """What a killed process left unfinished, once it is too old to be still in the making."""
    for path in cache_dir.iterdir():
        if not _UNFINISHED.fullmatch(path.name):
            continue
        try:
            abandoned = time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
        except FileNotFoundError:
            continue  # finished meanwhile
        if abandoned:
            shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(cache_dir: Path) -> Iterator[None]:
    """What goes wrong when writing there, as one line."""
    try:
        yield
    except OSError as cause:
        raise DataError(
            f"{cache_dir}: prepared text cannot be written there ({cause.strerror or cause}); "
            "it must be a writable folder with room; free some space or give another --store"
        ) from None
