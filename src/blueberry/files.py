"""Files and folders in and out: whole or not at all, prepared text too, whenever a writer is killed, one writer at a
time; what content is called (digests), TOML, and text as a terminal may be given it.
"""

import hashlib
import json
import os
import re
import shutil
import time
import tomllib
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from blueberry.errors import BlueberryError, DataError

PARTIAL = ".partial-"
"""How the name of a file or folder begins that is still being written."""
ABANDONED_SECONDS = 24 * 3600.0
"""What has been partial for longer was left by a process that was killed."""
_OURS = re.compile(rf"{re.escape(PARTIAL)}[0-9a-f]{{32}}")


@contextmanager
def refused_as(error: type[BlueberryError], place: object, what: str, remedy: str) -> Iterator[None]:
    """What the system refuses inside, as one line of ours: `place: what (its reason); remedy`.

    Also a text that is not UTF-8 and a name that no file can have.
    """
    try:
        yield
    except OSError as cause:
        said = cause.strerror or str(cause) or type(cause).__name__
        raise error(f"{place}: {what} ({said}); {remedy}") from None
    except UnicodeError:
        raise error(f"{place}: {what} (not UTF-8); {remedy}") from None
    except ValueError as cause:
        if "null" not in str(cause):  # of a name with a NUL in it; any other is a bug of ours
            raise
        raise error(f"{place}: {what} (no name holds a NUL); {remedy}") from None


def is_missing(path: Path) -> bool:
    """Whether there is nothing of that name. False where that may not be seen: who opens it is told why."""
    try:
        path.lstat()
    except PermissionError:
        return False
    except (OSError, ValueError):
        return True
    return False


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power failure. Makes its folder.

    Raises: OSError; then `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


DIGEST_TO_COME = "0" * 64
"""Where the digest of a content is to stand in it, after the word `sha256`."""
_DIGEST = re.compile(rb"sha256\W{1,9}([0-9a-f]{64})")


def sealed(content: bytes) -> bytes:
    """The content with the digest of all the rest of it in its place, of which it has one."""
    made = hashlib.sha256(content).hexdigest()
    assert _DIGEST.search(content)
    return content.replace(DIGEST_TO_COME.encode(), made.encode(), 1)


def is_whole(content: bytes) -> bool | None:
    """Whether the content is what was sealed; None if there is no digest in it."""
    found = _DIGEST.search(content)
    if found is None:
        return None
    sha = hashlib.sha256(memoryview(content)[: found.start(1)])
    sha.update(DIGEST_TO_COME.encode())
    sha.update(memoryview(content)[found.end(1) :])
    return sha.hexdigest().encode() == found[1]


@contextmanager
def partial_folder(parent: Path) -> Iterator[Path]:
    """A new empty folder in `parent`, for what is to be moved to its place once it is whole.

    Makes `parent`, and removes what was abandoned there; in the end the folder goes, if it was not itself moved.
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    folder = parent / f"{PARTIAL}{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed left partial in a folder."""
    for path in folder.glob(f"{PARTIAL}*"):
        if not _OURS.fullmatch(path.name):
            continue  # another's, whatever it is
        with suppress(OSError):
            if time.time() - path.stat().st_mtime <= ABANDONED_SECONDS:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk before anything else is done."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """One process at a time, by a file or folder that exists. A kill ends it."""
    import fcntl  # not on every system; only those that lock need it

    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


DIGEST_CHARACTERS = 16


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and shortest round-trip floats.

    Raises: ValueError on NaN or infinity, TypeError on what JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(*parts: str | bytes) -> str:
    """The first 16 hexadecimal characters of SHA-256 over the parts, each preceded by its length."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()[:DIGEST_CHARACTERS]


def begun_by(beginning: str, digests: Iterable[str]) -> list[str]:
    """What a person may mean by the beginning of a digest: the one that it is all of, or all of these that begin so."""
    found = [name for name in digests if name.startswith(beginning)]
    return [beginning] if beginning in found else found


MANIFEST = "manifest.json"


def prepared(cache_dir: Path, name: str, build: Callable[[Path], None]) -> Path:
    """The folder `cache_dir/name`, whole, whoever writes at once and whenever one is killed; built first when it is
    missing or damaged.

    Its files have a manifest of their sizes and digests. It is written under a temporary name, synced and renamed; what
    was damaged later does not agree with the manifest and is written anew.

    `build` writes files into the empty folder it is given, the same in every process that asks for this name.
    Raises: DataError, one line, if the folder cannot be written; whatever `build` raises.
    """
    folder = cache_dir / name
    if is_whole_folder(folder):
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


def is_whole_folder(folder: Path) -> bool:
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
        if is_whole_folder(folder):
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


MOST_TOML_BYTES = 10**7


def read_toml(path: Path, error: type[BlueberryError]) -> dict[str, Any]:
    """Parse a TOML file; what goes wrong is raised as `error`, one line."""
    if is_missing(path):
        raise error(f"{path}: no such file; give the path of a TOML file")
    with refused_as(error, path, "cannot be read", "give the path of a TOML file, readable UTF-8 text"):
        with path.open("rb") as file:
            content = file.read(MOST_TOML_BYTES + 1)
        text = content.decode("utf-8-sig")  # with its ends of lines as they are: TOML has a rule for them
    if len(content) > MOST_TOML_BYTES:
        raise error(
            f"{path}: more than {MOST_TOML_BYTES // 10**6} MB; no recipe or study is so long; give another file"
        )
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:
        raise error(f"{path}: not valid TOML ({cause}); mend that line") from None
    except (RecursionError, ValueError):
        raise error(f"{path}: not valid TOML (nested too deeply, or a number too long); mend it") from None


def read_toml_value(text: str) -> Any:
    """One value as TOML writes it; text where it is none, and where it is more than a value."""
    try:
        read = tomllib.loads(f"value = {text}")
    except (RecursionError, ValueError):  # a TOMLDecodeError too is a ValueError
        return text
    return read["value"] if read.keys() == {"value"} else text


def to_toml(tables: dict[str, Any]) -> str:
    """Nested tables of scalars and flat lists as a TOML file."""
    lines: list[str] = []
    _write_table(tables, "", lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(table: dict[str, Any], prefix: str, lines: list[str]) -> None:
    scalars = {name: value for name, value in table.items() if not isinstance(value, dict)}
    if prefix and scalars:
        lines += ["", f"[{prefix.rstrip('.')}]"]
    lines += [f"{name} = {toml_value(value)}" for name, value in scalars.items()]
    for name, value in table.items():
        if isinstance(value, dict):
            _write_table(value, f"{prefix}{name}.", lines)


def toml_value(value: Any) -> str:
    """A scalar or a flat list as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace(
            "\x7f", "\\u007f"
        )  # a JSON text is a TOML one, but for DEL
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return repr(value)


LONGEST_LINE = 4_000
"""Characters of a line that anybody reads."""
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but for tab and newline
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"  # invisible; other ends of lines; right to left
    "\ud800-\udfff]"  # bytes of a name that is not UTF-8
)


def printable(text: str, *, longest: int | None = LONGEST_LINE) -> str:
    """Text as a terminal may be given it: what would act on it is written as \\u and four digits, as in JSON and TOML.

    Of lines longer than `longest` the beginning and the end are kept.
    """
    fit = _UNFIT.sub(lambda unfit: f"\\u{ord(unfit[0]):04x}", text)
    if longest is None or len(fit) <= longest:
        return fit
    return "\n".join(line if len(line) <= longest else _shortened(line, longest // 2) for line in fit.split("\n"))


def _shortened(line: str, kept: int) -> str:
    return f"{line[:kept]} ... ({len(line) - 2 * kept:,} characters more) ... {line[-kept:]}"
