"""The texts in one file, one after another: the file, its pieces, or the rows of a table. Only a row is held whole."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path

from blueberry.errors import DataError
from blueberry.settings import Files
from blueberry.text.extras import require

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
