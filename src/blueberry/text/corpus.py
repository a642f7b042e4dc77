"""Where text comes from. A corpus is an ordered set of named documents and a digest of its content.

Two need no files: the sources of this Python, and a language whose entropy is known exactly.
"""

import hashlib
import importlib.util
import os
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from blueberry.errors import DataError
from blueberry.files import digest

LANGUAGE = "blueberry/synthetic/1"
"""Names the synthetic language, whose entropy is known exactly: a loss below it proves a leak. Whoever changes a
document changes this name.

Letters follow a Markov source of order 2 over a to z and space. What makes its entropy exact: every pair of
letters has its own eight successors, but always with the same probabilities 1/2, 1/4, ... 1/64, 1/128, 1/128.
So every letter of every document carries 127/64 bits to one who knows the language and all that came before,
whatever the context and the position; no stationary distribution has to be computed. The first letters follow
the context of two spaces, which the document's start supplies, so they carry as much.

A reader who knows less (a window that begins in mid-document, a document whose start is not marked) pays more,
and the separators between documents are paid for but stand for no text: the figure bounds from below the
expected cost of every byte. A measured mean over n bytes scatters around it by 1.34/sqrt(n) bits.

Everything is drawn from SHAKE-256 and integers, so the language is equal on every machine. A document is a
function of its index alone, so there are as many as anyone wants.
"""

LETTERS = b" etaoinshrdlucmfpgwybvkxjqz"
"""Frequent ones first."""

ENTROPY_BITS_PER_BYTE = 127 / 64

_NUM_LETTERS = len(LETTERS)
_NUM_CONTEXTS = _NUM_LETTERS**2
_NUM_SUCCESSORS = 8
_SHORTEST_BYTES = 1024
_LENGTHS = 2048
"""Documents are of 1024 to 3071 bytes, equally likely and independent of what they say."""


def synthetic_documents(indices: Sequence[int]) -> list[bytes]:
    """The documents of these indices, each of 1024 to 3071 letters.

    Source: letter t is successor number k of letters t-2 and t-1, where k counts the zero bits below the lowest
    one bit of the t-th random byte, at most 7: successor k has probability 2^-(k+1), the last one 1/128.
    """
    drawn = [_draws(index) for index in indices]
    num_bytes = np.array([draws.size for draws in drawn], dtype=np.int64)
    ranks_LD = np.zeros((num_bytes.max(initial=0), len(drawn)), dtype=np.uint8)
    for column, draws in enumerate(drawn):
        ranks_LD[: draws.size, column] = _RANK_OF_BYTE[draws]
    letters_LD = np.empty_like(ranks_LD)
    context = np.zeros(len(drawn), dtype=np.int64)
    successors_CK = successors()
    for position, ranks in enumerate(ranks_LD):
        letters = successors_CK[context, ranks]
        letters_LD[position] = letters
        context = context * _NUM_LETTERS % _NUM_CONTEXTS + letters
    text_DL = np.frombuffer(LETTERS, dtype=np.uint8)[letters_LD.T]
    return [row[:size].tobytes() for row, size in zip(text_DL, num_bytes, strict=True)]


def successors() -> np.ndarray:
    """The language itself: uint8 (729, 8), the letters that may follow each context, likeliest first.

    Letters are indices into LETTERS; context 27 * a + b is letter a and then b. Frequent letters succeed more
    contexts, and no space follows a space.
    """
    num_keys = _NUM_CONTEXTS * _NUM_LETTERS
    random = np.frombuffer(hashlib.shake_256(LANGUAGE.encode()).digest(2 * num_keys), dtype="<u2")
    keys_CN = random.reshape(_NUM_CONTEXTS, _NUM_LETTERS).astype(np.int64) * (4 + np.arange(_NUM_LETTERS))
    keys_CN[::_NUM_LETTERS, 0] = np.iinfo(np.int64).max
    return np.argsort(keys_CN, axis=1, kind="stable")[:, :_NUM_SUCCESSORS].astype(np.uint8)


def _draws(index: int) -> np.ndarray:
    """One random byte for each letter of a document."""
    shake = hashlib.shake_256(f"{LANGUAGE}/{index}".encode()).digest(2 + _SHORTEST_BYTES + _LENGTHS)
    num_bytes = _SHORTEST_BYTES + int.from_bytes(shake[:2], "little") % _LENGTHS
    return np.frombuffer(shake, dtype=np.uint8)[2 : 2 + num_bytes]


_RANK_OF_BYTE = np.array([next((bit for bit in range(7) if byte >> bit & 1), 7) for byte in range(256)], dtype=np.uint8)


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
    contents = synthetic_documents(range(NUM_SYNTHETIC_DOCUMENTS))
    return tuple(Document(f"synthetic/{index:06d}", content) for index, content in enumerate(contents))


def _synthetic_digest() -> str:
    # By what determines the documents: writing them takes longer. A test holds the documents to it.
    return digest(LANGUAGE, successors().tobytes(), str(NUM_SYNTHETIC_DOCUMENTS))


def corpus_digest(documents: tuple[Document, ...]) -> str:
    """Of names and contents, whatever the order."""
    return digest("blueberry/corpus/1", *sorted(document.digest for document in documents))


CORPORA: dict[str, Corpus] = {
    "python-stdlib": Corpus(_python_stdlib, cache(lambda: corpus_digest(_python_stdlib()))),
    "synthetic": Corpus(_synthetic, cache(_synthetic_digest), ENTROPY_BITS_PER_BYTE),
}


def require(package: str, extra: str, place: str) -> None:
    """Raises: DataError naming the extra to install, if the package is missing."""
    if importlib.util.find_spec(package) is None:
        raise DataError(
            f"{place}: needs the package {package}, which is not installed; "
            f"pip install 'blueberry-lm[{extra}]', or use another kind of data"
        )
