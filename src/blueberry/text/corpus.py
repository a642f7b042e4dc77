"""Where text comes from. A corpus is an ordered set of named documents and a digest of its content."""

import importlib.util
import os
import sysconfig
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from blueberry.errors import DataError
from blueberry.identity import digest
from blueberry.text import synthetic


@dataclass(frozen=True)
class Document:
    name: str
    content: bytes
    """UTF-8, not empty, without NUL: that byte ends documents in the token stream."""
    is_named: bool = True
    """Whether its name is part of it; not so where the name only says where the text lies."""

    @property
    def digest(self) -> str:
        return digest(self.name if self.is_named else "", self.content)


@dataclass(frozen=True)
class Corpus:
    documents: Callable[[], Iterable[Document]]
    """In an order of its own, read anew at every call. Raises: DataError if there is no text, or none to be read."""
    digest: Callable[[], str]
    """Changes when, and only when, a document or their order does. Raises: DataError if there is no text."""
    entropy_bits_per_byte: float | None = None
    """The least expected cost of a byte, where it is known."""


NUM_SYNTHETIC_DOCUMENTS = 2048
"""4.2 MB."""

_NOT_IN_CORPUS = {"__pycache__", "site-packages", "dist-packages"}
_NOT_IN_CORPUS |= {"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "encodings", "pydoc_data"}
"""Folders of other people's packages, of tests, and of tables that are hardly text."""

_WRITTEN_BY_INSTALLATION = ("_sysconfigdata", "sitecustomize.py", "usercustomize.py", "config-")
"""Beginnings of names of files and folders that differ between installations of one Python version."""


def documents_under(root: Path) -> tuple[Document, ...]:
    """The Python files under a folder that a corpus takes, each named by its relative posix path, in that order.

    Left out: files that are empty, not UTF-8 or hold a NUL, and those whose content came under an earlier name.
    """
    contents: dict[bytes, str] = {}
    for name in sorted(_python_files(root)):
        content = (root / name).read_bytes()
        with suppress(UnicodeDecodeError):
            if content.decode() and b"\0" not in content:
                contents.setdefault(content, name)
    return tuple(Document(name, content) for content, name in contents.items())


def _python_files(root: Path) -> list[str]:
    names: list[str] = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _NOT_IN_CORPUS and _is_shipped(name)]
        relative = Path(folder).relative_to(root)
        names += [(relative / name).as_posix() for name in files if name.endswith(".py") and _is_shipped(name)]
    return names


def _is_shipped(name: str) -> bool:
    return not name.startswith(_WRITTEN_BY_INSTALLATION)


@cache  # so that one process never sees two versions of it: 9 MB
def _python_stdlib() -> tuple[Document, ...]:
    root = Path(sysconfig.get_path("stdlib"))
    try:
        found = documents_under(root)
    except OSError as cause:
        raise DataError(
            f'data.corpus: "python-stdlib"; {cause.filename} cannot be read ({cause.strerror}); '
            'mend it, or set data.corpus = "synthetic"'
        ) from None
    if not found:
        raise DataError(
            f'data.corpus: "python-stdlib"; this Python has no .py files in {root}; '
            'use a Python with its library\'s sources, or set data.corpus = "synthetic"'
        )
    return found


def _synthetic() -> tuple[Document, ...]:
    contents = synthetic.documents(range(NUM_SYNTHETIC_DOCUMENTS))
    return tuple(Document(f"synthetic/{index:06d}", content) for index, content in enumerate(contents))


def _synthetic_digest() -> str:
    # By what determines the documents: writing them takes longer. A test holds the documents to it.
    return digest(synthetic.LANGUAGE, synthetic.successors().tobytes(), str(NUM_SYNTHETIC_DOCUMENTS))


def corpus_digest(documents: tuple[Document, ...]) -> str:
    """Of names and contents, whatever the order."""
    return digest("blueberry/corpus/1", *sorted(document.digest for document in documents))


CORPORA: dict[str, Corpus] = {
    "python-stdlib": Corpus(_python_stdlib, cache(lambda: corpus_digest(_python_stdlib()))),
    "synthetic": Corpus(_synthetic, cache(_synthetic_digest), synthetic.ENTROPY_BITS_PER_BYTE),
}


def require(package: str, extra: str, place: str) -> None:
    """Raises: DataError naming the extra to install, if the package is missing."""
    if importlib.util.find_spec(package) is None:
        raise DataError(
            f"{place}: needs the package {package}, which is not installed; "
            f"pip install 'blueberry-lm[{extra}]', or use another kind of data"
        )
