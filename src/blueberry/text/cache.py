"""A folder of prepared entries that may be trusted: whole or absent, whoever writes at once and whenever one is killed.

An entry is a folder of files and a manifest of their sizes and digests. It is written under a temporary name,
synced and renamed; what was damaged later does not agree with the manifest and is written anew.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from blueberry.errors import DataError
from blueberry.files import lock, partial_folder, refused_as, sync
from blueberry.identity import canonical_json, digest

MANIFEST = "manifest.json"


def entry(cache_dir: Path, name: str, build: Callable[[Path], None]) -> Path:
    """The folder `cache_dir/name`, whole; built first when it is missing or damaged.

    `build` writes files into the empty folder it is given, the same in every process that asks for this name.
    Raises: DataError, one line, if the folder cannot be written; whatever `build` raises.
    """
    folder = cache_dir / name
    if is_whole(folder):
        return folder
    remedy = "it must be a writable folder with room; free some space or give another --store"
    with (
        refused_as(DataError, cache_dir, "prepared text cannot be written there", remedy),
        partial_folder(cache_dir) as unfinished,
    ):
        build(unfinished)
        _seal(unfinished, name)
        _install(unfinished, folder)
    return folder


_verified: set[tuple[Path, tuple[tuple[str, int, int, int], ...]]] = set()
"""Entries that this process has read in whole, with the size, time and number of each of their files."""


def is_whole(folder: Path) -> bool:
    """Whether a folder's files agree with its manifest, and the manifest with itself.

    Read in whole once a process, and again when a file is another.
    """
    try:
        stats = sorted((path.name, path.stat()) for path in folder.iterdir())
        as_it_is = (folder, tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats))
    except OSError:
        return False
    if as_it_is in _verified:
        return True
    if found := _agrees(folder):
        _verified.add(as_it_is)
    return found


def _agrees(folder: Path) -> bool:
    try:
        written = (folder / MANIFEST).read_text(encoding="utf-8")
        return written == _manifest(folder, folder.name, json.loads(written)["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _seal(folder: Path, name: str) -> None:
    """Sync the files of a folder and write their manifest."""
    files = [path.name for path in folder.iterdir()]
    (folder / MANIFEST).write_text(_manifest(folder, name, files), encoding="utf-8")
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def _manifest(folder: Path, name: str, files: Iterable[str]) -> str:
    """Of these files as they are, and of the entry's name too: an entry under another's name is not whole."""
    said = {file: {"bytes": (folder / file).stat().st_size, "sha256": _sha256(folder / file)} for file in files}
    return canonical_json({"files": said, "digest": digest(name, canonical_json(said))})


def _install(unfinished: Path, folder: Path) -> None:
    """Give a finished folder its name, unless another process was first with a whole one."""
    with lock(folder.parent):  # so that none moves away what another has just made whole
        if is_whole(folder):
            return
        if folder.exists():
            damaged = unfinished.with_name(f"{unfinished.name}.damaged")
            folder.rename(damaged)
            shutil.rmtree(damaged)
        unfinished.rename(folder)
        sync(folder.parent)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
