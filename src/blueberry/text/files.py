"""Files on this disk as a corpus: which ones, in what order, the digest of their content, and the texts in each.

A text is a file, a piece of one, or a row of a table. Only a row is held whole.
"""

import codecs
import glob
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from blueberry.errors import DataError
from blueberry.files import canonical_json, digest, is_missing, refused_as, write_whole
from blueberry.settings import Files
from blueberry.text.corpus import Corpus, Document, require

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
"""By a file's ending; all others are text."""
_CHUNK_BYTES = 1 << 20
_ROWS_AT_ONCE = 1024


def format_of(path: Path, files: Files) -> str:
    """text, jsonl or parquet."""
    return files.format if files.format != "auto" else FORMATS.get(path.suffix.lower(), "text")


def rows(path: Path, files: Files, place: str) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each document of a file; "" where a row holds none.

    `place` names the section in messages, as in "data.files".
    Raises: DataError, one line, at the first thing that cannot be read.
    """
    try:
        match format_of(path, files):
            case "jsonl":
                yield from _json_lines(path, files.text_column, place)
            case "parquet":
                yield from _parquet(path, files.text_column, place)
            case _:
                yield from enumerate(_pieces(path, files.delimiter, place), 1)
    except OSError as cause:
        raise DataError(
            f"{place}.paths: {path} cannot be read ({cause.strerror or cause}); a corpus needs all its files; mend it"
        ) from None


def _pieces(path: Path, delimiter: str | None, place: str) -> Iterator[str]:
    """The whole file, or what stands between its delimiters."""
    decoder, held, num_bytes = codecs.getincrementaldecoder("utf-8")(), [""], 0
    with path.open("rb") as file:
        while True:
            chunk = file.read(_CHUNK_BYTES)
            try:
                held.append(decoder.decode(chunk, final=not chunk))
            except UnicodeDecodeError as cause:
                at = num_bytes + cause.start - len(decoder.getstate()[0])
                raise DataError(
                    f"{place}.paths: {path} is not UTF-8 near byte {max(at, 0)}; text must be; convert it, e.g. with "
                    "iconv -f latin1 -t utf-8"
                ) from None
            num_bytes += len(chunk)
            if not chunk:
                break
            if delimiter is not None:
                *whole, rest = "".join(held).split(delimiter)
                yield from whole
                held = [rest]
    yield "".join(held) if delimiter is None else held[0] + "".join(held[1:])


def _json_lines(path: Path, column: str, place: str) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as cause:
                said = cause.msg if isinstance(cause, json.JSONDecodeError) else "not UTF-8 text or nested too deeply"
                raise DataError(f"{path}:{number}: not valid JSON ({said}); each line is one object; mend it") from None
            if not isinstance(row, dict):
                raise DataError(
                    f'{path}:{number}: {type(row).__name__}; each line is one object such as {{"{column}": "..."}}; '
                    "mend it"
                )
            if column not in row:
                raise DataError(f"{path}:{number}: {no_column(column, row, place)}")
            yield number, _text(row[column], f"{path}:{number}", column)


def _parquet(path: Path, column: str, place: str) -> Iterator[tuple[int, str]]:
    require("pyarrow", "parquet", f"{place}.paths: {path}")
    import pyarrow  # pyright: ignore[reportMissingImports]
    import pyarrow.parquet  # pyright: ignore[reportMissingImports]

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if column not in names:
                raise DataError(f"{path}: {no_column(column, names, place)}")
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[column]):
                for value in batch.column(0).to_pylist():
                    number += 1
                    yield number, _text(value, f"{path}: row {number}", column)
    except pyarrow.ArrowInvalid as cause:
        raise DataError(f"{path}: not a Parquet file ({str(cause).splitlines()[0]}); write it anew") from None


def no_column(column: str, names: object, place: str) -> str:
    """The end of a message about rows that lack a column."""
    known = ", ".join(sorted(map(str, names))) if isinstance(names, (list, dict)) else ""  # pyright: ignore
    return f'no column "{column}"; it has {known or "none"}; set {place}.text_column to the one that holds the text'


def _text(value: object, place: str, column: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f'{place}: column "{column}" holds {type(value).__name__}; a document is a text; '
            "set text_column to the one that holds text"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f'{place}: column "{column}" holds half a character; UTF-8 cannot; mend that row') from None
    return value


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
