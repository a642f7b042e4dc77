"""Files on this disk as a corpus: which ones, in what order, and the digest of their content."""

import glob
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from blueberry.errors import DataError
from blueberry.files import is_missing, refused_as, write_whole
from blueberry.identity import canonical_json, digest
from blueberry.settings import Files
from blueberry.text.corpus import Corpus, Document
from blueberry.text.file_rows import format_of, rows

_REMEMBERED = "file-digests.json"
_SETTLED_SECONDS = 2.0
"""A file changed less long ago could change again without its times saying so."""


def files_corpus(files: Files, cache_dir: Path | None, place: str = "data.files") -> Corpus:
    """The documents of these files. `cache_dir` remembers digests of files; `place` names the section in messages."""

    def documents() -> Iterator[Document]:
        for path in found(files, place):
            for number, text in rows(path, files, place):
                yield Document(f"{path.name}:{number}", text.encode(), is_named=False)

    def content() -> str:
        paths = found(files, place)
        formats = [format_of(path, files) for path in paths]
        if set(formats) == {"text"} and files.text_column != "text":
            raise DataError(
                f"{place}.text_column: {files.text_column!r}; all files are text, without columns; remove it"
            )
        if "text" not in formats and files.delimiter is not None:
            raise DataError(f"{place}.delimiter: {files.delimiter!r}; no file is text; remove it")
        read = {"formats": formats, "text_column": files.text_column, "delimiter": files.delimiter}
        return digest("blueberry/files/1", canonical_json(read), *(file_digest(p, cache_dir, place) for p in paths))

    return Corpus(documents, content)


def found(files: Files, place: str) -> list[Path]:
    """The files that paths and globs name, each once: in the order given, a glob's by name.

    Raises: DataError if a path is missing or a folder, or a glob matches no file.
    """
    paths: dict[str, Path] = {}
    for given in files.paths:
        if "\0" in given:
            raise DataError(f"{place}.paths: {given!r}; a path holds no NUL; mend it")
        pattern = os.path.expanduser(given)
        if glob.has_magic(pattern) and not os.path.exists(pattern):
            matched = [path for path in sorted(glob.glob(pattern, recursive=True)) if os.path.isfile(path)]
            if not matched:
                raise DataError(f'{place}.paths: "{given}"; matches no file from {Path.cwd()}; mend the glob')
        elif os.path.isdir(pattern):
            raise DataError(f'{place}.paths: "{given}"; is a folder; give its files, e.g. "{given.rstrip("/")}/*.txt"')
        elif is_missing(Path(pattern)) or os.path.exists(pattern) != os.path.isfile(pattern):
            raise DataError(f'{place}.paths: "{given}"; no such file from {Path.cwd()}; mend the path')
        else:
            matched = [pattern]
        for path in matched:
            paths.setdefault(os.path.realpath(path), Path(path))
    return list(paths.values())


def file_digest(path: Path, cache_dir: Path | None, place: str) -> str:
    """SHA-256 of a file's bytes, read again only when its size or times have changed.

    Raises: DataError if it cannot be read.
    """
    with refused_as(DataError, place, f"{path} cannot be read", "mend it"):
        stat = path.stat()
        key = f"{path.resolve()} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        remembered = _remembered(cache_dir)
        if key in remembered:
            return remembered[key]
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    if cache_dir is not None and time.time() - max(stat.st_mtime, stat.st_ctime) > _SETTLED_SECONDS:
        _remember(cache_dir, {key: found})
    return found


def _remembered(cache_dir: Path | None) -> dict[str, str]:
    if cache_dir is None:
        return {}
    try:
        known = json.loads((cache_dir / _REMEMBERED).read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(cache_dir: Path, new: dict[str, str]) -> None:
    """Only a convenience: where it cannot be written, or another process wins, files are read again."""
    if os.path.isdir(cache_dir):
        with suppress(OSError):
            write_whole(cache_dir / _REMEMBERED, canonical_json({**_remembered(cache_dir), **new}).encode())
