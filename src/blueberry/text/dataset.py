"""A corpus, or several, as token streams: what is written of it, once and whole (`files.prepared`), then
memory-mapped.

What is taken of each corpus that a recipe names is read in turn, encoded in small batches and written as it comes:
memory stays flat.
"""

import json
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from blueberry.errors import DataError
from blueberry.files import canonical_json, digest, is_missing, prepared, refused_as
from blueberry.settings import Data, NamedSet, Source
from blueberry.text.corpus import CORPORA, Corpus, Document
from blueberry.text.files import file_digest, files_corpus
from blueberry.text.hub import hub_corpus, tokenizer_file, tokenizer_revision
from blueberry.text.tokenizer import (
    PATTERN,
    SEPARATOR,
    AnyTokenizer,
    Tokenizer,
    TokenizerFile,
    read_tokenizer,
    token_type,
    train_tokenizer,
    write_tokenizer,
)


@dataclass(frozen=True)
class Part:
    """One corpus of the data."""

    name: str
    """As the recipe names it; "" for an only corpus."""
    source: Source
    place: str
    """The section that names it, for messages: "data", "data.mixture.code"."""
    share: float
    """Of the training windows; 0 where it is only measured."""

    def corpus(self, cache_dir: Path | None) -> Corpus:
        match self.source.corpus:
            case "files":
                assert self.source.files is not None
                return files_corpus(self.source.files, cache_dir, f"{self.place}.files")
            case "hugging-face":
                return hub_corpus(self.source, cache_dir, self.place)
            case name:
                return CORPORA[name]

    def identity(self, cache_dir: Path | None) -> dict[str, object]:
        """Everything that decides what is taken. Raises: DataError if the corpus is missing."""
        source = self.source
        cut = {"documents": source.max_documents, "characters": source.max_characters, "tokens": source.max_tokens}
        taken = source.documents if isinstance(source, NamedSet) else None
        return {"name": self.name, "corpus": self.corpus(cache_dir).digest(), "cut": cut, "taken": taken}


def parts(data: Data) -> tuple[Part, ...]:
    """Those trained on first, in the recipe's order."""
    if data.corpus == "mixture":
        total = sum(part.weight for part in data.mixture.values())
        trained = [Part(name, part, f"data.mixture.{name}", part.weight / total) for name, part in data.mixture.items()]
    else:
        trained = [Part("", data, "data", 1.0)]
    return (*trained, *(Part(name, source, f"data.sets.{name}", 0.0) for name, source in data.sets.items()))


def taken(part: Part, cache_dir: Path | None) -> Iterator[Document]:
    """The documents of a corpus, cut as the recipe says, in the corpus's order.

    Left out are those that are empty, hold a NUL (which marks ends), or repeat another.
    Raises: DataError if no document remains, or one cannot be read.
    """
    counted, seen = Counter[str](), set[str]()
    for document in islice(part.corpus(cache_dir).documents(), part.source.max_documents):
        content = _cut(document.content, part.source.max_characters)
        held = Document(document.name, content, document.is_named)
        key = Document("", content).digest
        reason = "empty" if not content else "holding a NUL" if b"\0" in content else "repeated"
        if reason == "repeated" and key not in seen:
            seen.add(key)
            yield held
        else:
            counted[reason] += 1
    if not seen:
        rows = ", ".join(f"{number} {reason}" for reason, number in counted.items()) or "no rows at all"
        name = f"{part.place}.files.paths" if part.source.files is not None else f"{part.place}.corpus"
        given = list(part.source.files.paths) if part.source.files is not None else part.source.corpus
        raise DataError(f"{name}: {given}; there is no text in it ({rows}); a corpus needs documents; give others")


def _cut(content: bytes, max_characters: int | None) -> bytes:
    if max_characters is None or len(content) <= max_characters:
        return content
    return content.decode()[:max_characters].encode()


SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
WHOLE = "whole"
"""The one stream of overlapping windows, whose splits are sets of windows."""

_BATCH_BYTES = 1 << 22
"""Text encoded at once."""
_FEW_DOCUMENTS = 40
"""With so few it is their number, not the fractions, that leaves a split empty."""


def prepare(data: Data, cache_dir: Path, folder: Path) -> None:
    """Write a dataset's files into a folder.

    Raises: DataError if there is no text, a split has none, or the vocabulary does not fit.
    """
    tokenizer = make_tokenizer(data, cache_dir)
    streams = {part.name: _write_part(part, data, tokenizer, cache_dir, folder) for part in parts(data)}
    (folder / "streams.json").write_text(canonical_json({"streams": streams}))
    (folder / "tokenizer.json").write_text(write_tokenizer(tokenizer), encoding="utf-8")


def make_tokenizer(data: Data, cache_dir: Path) -> AnyTokenizer:
    """The tokenizer that a recipe names; a bpe is trained on the training documents, all corpora's alike.

    Raises: DataError if it is missing or its vocabulary is not the recipe's.
    """
    if data.tokenizer in ("byte", "bpe"):
        made = train_tokenizer(_training_texts(data, cache_dir), data.vocabulary_tokens, pad=data.pad_vocabulary)
        return Tokenizer(made.merged, SEPARATOR if data.mark_documents else None, made.num_unused)
    if data.tokenizer == "file":
        path = tokenizer_path(data)
        with refused_as(DataError, "data.tokenizer_path", f"{path} cannot be read", "give a tokenizer.json that can"):
            place, content = str(path), path.read_bytes().decode(errors="replace")
    else:
        assert data.tokenizer_repository is not None
        place = data.tokenizer_repository
        content = tokenizer_file(data.tokenizer_repository, tokenizer_revision(data, cache_dir), cache_dir)
    made = TokenizerFile.parse(content, place=place, end_token=data.end_token, mark_documents=data.mark_documents)
    if made.vocabulary_tokens != data.vocabulary_tokens:
        raise DataError(
            f"data.vocabulary_tokens: {data.vocabulary_tokens}; the tokenizer {place} has {made.vocabulary_tokens} "
            f"entries; set data.vocabulary_tokens = {made.vocabulary_tokens}"
        )
    return made


def split_of(document: Document, data: Data) -> SplitName:
    """Decided by the document alone, so no other document moves it. One text of files or of the hub is in one split of
    all such corpora; what the embedded ones hold goes by its name too.

    Test and validation grow from opposite ends, so neither fraction changes what the other holds.
    """
    share = int(document.digest, 16) / 16 ** len(document.digest)
    if share < data.test_fraction:
        return "test"
    return "validation" if share >= 1 - data.validation_fraction else "train"


def stream_file(part_name: str, stream: str) -> str:
    return f"{part_name}.{stream}" if part_name else stream


def tokenizer_path(data: Data) -> Path:
    """Of the file that a recipe names. Raises: DataError if it is missing."""
    path = Path(os.path.expanduser(data.tokenizer_path or ""))
    if is_missing(path) or os.path.exists(path) != os.path.isfile(path):
        raise DataError(
            f'data.tokenizer_path: "{data.tokenizer_path}"; no such file from {Path.cwd()}; give a tokenizer.json'
        )
    return path


def _training_texts(data: Data, cache_dir: Path) -> Iterator[str]:
    for part in parts(data):
        if part.share > 0:
            counted = Counter[str]()
            for stream, document in _placed(part, data, cache_dir, counted):
                if stream in ("train", WHOLE):
                    yield document.content.decode()
            for stream in _stream_names(part, data):  # said now, not after a long training
                if not counted[stream]:
                    raise DataError(_no_document(stream, part, data, counted.total()))


class _Stream:
    """One growing file of tokens, and where its documents start."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.starts, self.names = array("q", [0]), list[str]()

    def add(self, name: str, tokens: np.ndarray) -> None:
        self.file.write(tokens.astype(tokens.dtype.newbyteorder("<"), copy=False).tobytes())
        self.names.append(name)
        self.starts.append(self.starts[-1] + tokens.size)


def _write_part(part: Part, data: Data, tokenizer: AnyTokenizer, cache_dir: Path, folder: Path) -> dict[str, list[str]]:
    """Write the streams of one corpus; returns the names of their documents."""
    streams = {name: _Stream(folder / f"{stream_file(part.name, name)}.tokens") for name in _stream_names(part, data)}
    counted, num_tokens, most = Counter[str](), 0, part.source.max_tokens
    placed = (pair for pair in _placed(part, data, cache_dir, counted) if pair[0] in streams)
    try:
        for stream, document, tokens in _encoded(placed, tokenizer):
            tokens = tokens if most is None else tokens[: most - num_tokens]
            if not tokens.size:
                break
            streams[stream].add(document.name, tokens)
            num_tokens += tokens.size
    finally:
        for stream in streams.values():
            stream.file.close()
    for name, stream in streams.items():
        if not stream.names:
            raise DataError(_no_document(name, part, data, counted.total()))
        starts = np.frombuffer(stream.starts, dtype=np.int64).astype("<i8")
        (folder / f"{stream_file(part.name, name)}.starts").write_bytes(starts.tobytes())
    return {name: stream.names for name, stream in streams.items()}


def _stream_names(part: Part, data: Data) -> tuple[str, ...]:
    if data.windows == "overlapping":
        return (WHOLE,)
    return SPLITS if part.share > 0 else ("validation",)


def _placed(part: Part, data: Data, cache_dir: Path, counted: Counter[str]) -> Iterator[tuple[str, Document]]:
    """Each document of a corpus and the stream that it belongs to, counted by that."""
    is_all = isinstance(part.source, NamedSet) and part.source.documents == "all"
    only = WHOLE if data.windows == "overlapping" else "validation" if is_all else None
    for document in taken(part, cache_dir):
        stream = only or split_of(document, data)
        counted[stream] += 1
        yield stream, document


def _encoded(
    placed: Iterable[tuple[str, Document]], tokenizer: AnyTokenizer
) -> Iterator[tuple[str, Document, np.ndarray]]:
    """Each document's tokens, its mark included."""
    mark = [] if tokenizer.separator is None else [tokenizer.separator]
    end = np.array(mark, dtype=token_type(tokenizer.vocabulary_tokens))
    for batch in _batches(placed):
        arrays = tokenizer.encode_all([document.content.decode() for _, document in batch])
        for (stream, document), tokens in zip(batch, arrays, strict=True):
            yield stream, document, np.concatenate([tokens, end]).astype(end.dtype, copy=False)


def _batches(placed: Iterable[tuple[str, Document]]) -> Iterator[list[tuple[str, Document]]]:
    """So many documents that they hold `_BATCH_BYTES`."""
    batch, num_bytes = [], 0
    for stream, document in placed:
        batch.append((stream, document))
        num_bytes += len(document.content)
        if num_bytes >= _BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    yield batch


def _no_document(split: str, part: Part, data: Data, num_documents: int) -> str:
    few = num_documents < _FEW_DOCUMENTS and part.source.max_tokens is None
    if part.source.files is not None and few:
        return (
            f"{part.place}.files.paths: {list(part.source.files.paths)}; of {num_documents} documents none falls to "
            f"the {split} split, which needs one; give more, or cut text files into documents with "
            f'{part.place}.files.delimiter = "\\n\\n"'
        )
    if part.source.max_tokens is not None:
        return (
            f"{part.place}.max_tokens: {part.source.max_tokens}; the documents it reaches give none to the {split} "
            "split, which needs one; raise it"
        )
    setting = "validation_fraction" if split == "train" else f"{split}_fraction"
    remedy = "lower it" if split == "train" else "raise it"
    return (
        f"data.{setting}: {getattr(data, setting)}; of {num_documents} documents none falls to the {split} split, "
        f"which needs one; {remedy}"
    )


NUMERICS = "2"
"""Of the built-in trainer. Whoever changes the numbers that a recipe gives changes it: the digest of a text has it, so
that runs before and after have different names and no store mixes them. 2: norms are not decayed, a hash is two draws.
"""
FORMAT = "blueberry/data/2"
"""Names how documents become files. Whoever changes split, stream or file format changes this name."""


@dataclass(frozen=True)
class Lot:
    """Which windows of a stream are a split's, when windows overlap: from `start` to `stop` of their shuffled list."""

    start: float
    stop: float


@dataclass(frozen=True, eq=False)
class Split:
    """Documents in the order of their corpus, each ended by the separator if there is one, as one stream."""

    name: SplitName
    tokens: np.ndarray
    """uint16 (S,), or uint32 where the vocabulary needs it."""
    documents: tuple[str, ...]
    document_starts: np.ndarray
    """int64 (D+1,): document d is tokens[starts[d]:starts[d + 1]], its separator included."""
    lot: Lot | None = None
    """None: the whole stream is this split's, in windows side by side. Else windows begin at every token."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """The same split of several corpora, in fixed proportions."""

    name: SplitName
    names: tuple[str, ...]
    parts: tuple[Split, ...]
    shares: tuple[float, ...]
    """Of the windows; they add up to 1."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a recipe's `data` section stands for.

    Bits per byte of any tokens are exact: the nats of all of them, separators included, over ln 2 and over the sum of
    the tokenizer's `token_bytes` of them. The separator costs but stands for no text: marking ends has a price.
    """

    train: Split | Mixture
    validation: Split | Mixture
    test: Split | Mixture
    sets: dict[str, Split]
    """Held-out text that every evaluation measures by name: each corpus of a mixture, and `data.sets`."""
    written_tokenizer: bytes
    """As `write_tokenizer` gives it."""
    digest: str
    entropy_bits_per_byte: float | None
    """No model can expect to pay less; None where nobody knows. See `blueberry.text.corpus.LANGUAGE`."""

    @cached_property
    def tokenizer(self) -> AnyTokenizer:
        return read_tokenizer(self.written_tokenizer)

    @cached_property
    def train_tokens(self) -> int:
        """Tokens that training can take before any is seen twice."""
        if isinstance(self.train, Split):
            return self.train.tokens.size
        pairs = zip(self.train.parts, self.train.shares, strict=True)
        return min(int(part.tokens.size / share) for part, share in pairs)


def data_digest(data: Data, cache_dir: Path | None = None) -> str:
    """The name of a dataset: a digest of everything that decides its tokens. Trains nothing.

    Files are named by their content, not by where they lie; with `cache_dir` an unchanged one is read only once.
    Raises: DataError if a corpus or the tokenizer is missing, or its revision is left out and cannot be asked for.
    """
    is_file = data.tokenizer == "file"
    specification: dict[str, object] = {
        "numerics": NUMERICS,
        "tokenizer": data.tokenizer,
        "tokenizer_file": file_digest(tokenizer_path(data), cache_dir, "data.tokenizer_path") if is_file else None,
        "tokenizer_repository": data.tokenizer_repository,
        "tokenizer_revision": tokenizer_revision(data, cache_dir) if data.tokenizer_repository else None,
        "end_token": data.end_token,
        "mark_documents": data.mark_documents,
        "vocabulary_tokens": data.vocabulary_tokens,
        "validation_fraction": data.validation_fraction,
        "test_fraction": data.test_fraction,
        "windows": data.windows,
        "parts": [part.identity(cache_dir) for part in parts(data)],
        "trained": [part.name for part in parts(data) if part.share > 0],
    }
    if data.pad_vocabulary:
        specification["pad_vocabulary"] = True
    if data.max_train_tokens is not None:
        specification["max_train_tokens"] = data.max_train_tokens
    if data.tokenizer == "bpe":
        from importlib.metadata import version

        specification |= {"pattern": PATTERN, "tokenizers": version("tokenizers")}
    return digest(FORMAT, canonical_json(specification))


def load(data: Data, cache_dir: Path) -> Dataset:
    """The dataset, prepared in `cache_dir/<data_digest>` when it is not there whole; then memory-mapped.

    Raises: DataError if a corpus is missing, a split has no document, the vocabulary does not fit or the folder
    cannot be written.
    """
    whole = data.model_copy(update={"max_train_tokens": None})  # prepared once, and cut to any length when it is read
    name = data_digest(whole, cache_dir)

    def build(unfinished: Path) -> None:
        prepare(whole, cache_dir, unfinished)
        if data_digest(whole, cache_dir) != name:
            raise DataError("data: files changed while they were read; a run needs them at rest; run it again")

    folder = prepared(cache_dir, name, build)
    written = json.loads((folder / "streams.json").read_bytes())
    dtype = np.dtype(token_type(data.vocabulary_tokens)).newbyteorder("<")

    def opened(part: Part, split: SplitName) -> Split:
        stream = WHOLE if data.windows == "overlapping" else split
        path = folder / stream_file(part.name, stream)
        made = Split(
            name=split,
            # A plain array over the map: subclasses of arrays slow down indexing and pickle oddly.
            tokens=np.asarray(np.memmap(path.with_name(f"{path.name}.tokens"), dtype=dtype, mode="r")),
            documents=tuple(written["streams"][part.name][stream]),
            document_starts=np.fromfile(path.with_name(f"{path.name}.starts"), dtype="<i8").astype(np.int64),
            lot=_lots(data)[split] if data.windows == "overlapping" else None,
        )
        return _beginning(made, data.max_train_tokens) if split == "train" and data.max_train_tokens else made

    named = parts(data)
    trained = [part for part in named if part.share > 0]

    def of(split: SplitName) -> Split | Mixture:
        if data.corpus != "mixture":
            return opened(trained[0], split)
        names, shares = tuple(p.name for p in trained), tuple(p.share for p in trained)
        return Mixture(split, names, tuple(opened(part, split) for part in trained), shares)

    return Dataset(
        **{split: of(split) for split in SPLITS},
        sets={part.name: opened(part, "validation") for part in named if part.name},
        written_tokenizer=(folder / "tokenizer.json").read_bytes(),
        digest=data_digest(data, cache_dir),
        entropy_bits_per_byte=CORPORA[data.corpus].entropy_bits_per_byte if data.corpus in CORPORA else None,
    )


def _beginning(split: Split, num_tokens: int) -> Split:
    """The first tokens of a stream. Raises: DataError if it has not so many."""
    if num_tokens > split.tokens.size:
        raise DataError(
            f"data.max_train_tokens: {num_tokens}; the training split holds {split.tokens.size} tokens; "
            "give no more than these, or more text"
        )
    num_documents = int(np.searchsorted(split.document_starts, num_tokens))
    starts = np.append(split.document_starts[:num_documents], num_tokens)
    return Split(split.name, split.tokens[:num_tokens], split.documents[:num_documents], starts)


def _lots(data: Data) -> dict[SplitName, Lot]:
    first = 1 - data.validation_fraction - data.test_fraction
    return {
        "train": Lot(0, first),
        "validation": Lot(first, 1 - data.test_fraction),
        "test": Lot(1 - data.test_fraction, 1),
    }
