"""A corpus as three token streams, prepared once and then memory-mapped."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from blueberry.errors import DataError
from blueberry.identity import canonical_json, digest
from blueberry.settings import Data
from blueberry.text import cache
from blueberry.text.corpus import CORPORA, Document
from blueberry.text.tokenizer import NUM_BYTES, PATTERN, SEPARATOR, Tokenizer, train_tokenizer

FORMAT = "blueberry/data/1"
"""Names how documents become files. Whoever changes split, stream or file format changes this name."""

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Documents in order of their names, each ended by the separator, as one stream."""

    name: SplitName
    tokens: np.ndarray
    """uint16 (S,)."""
    documents: tuple[str, ...]
    document_starts: np.ndarray
    """int64 (D+1,): document d is tokens[starts[d]:starts[d + 1]], its separator included."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a recipe's `data` section stands for.

    Bits per byte of any tokens are exact: the nats of all of them, separators included, over ln 2 and over the
    sum of their `token_bytes`. The separator costs but stands for no text, so marking where documents end is
    part of the price.
    """

    train: Split
    validation: Split
    test: Split
    tokenizer: Tokenizer
    digest: str
    entropy_bits_per_byte: float | None
    """No model can expect to pay less; None where nobody knows. See `blueberry.text.synthetic`."""

    @property
    def vocabulary_tokens(self) -> int:
        return self.tokenizer.vocabulary_tokens

    @property
    def token_bytes(self) -> np.ndarray:
        """Bytes of text each token stands for: int32 (V,)."""
        return self.tokenizer.token_bytes


def data_digest(data: Data) -> str:
    """The name of a dataset: a digest of everything that decides its tokens. Trains nothing.

    Raises: DataError if the corpus is missing.
    """
    specification = {
        "tokenizer": data.tokenizer,
        "vocabulary_tokens": data.vocabulary_tokens,
        "validation_fraction": data.validation_fraction,
        "test_fraction": data.test_fraction,
    }
    if data.vocabulary_tokens > NUM_BYTES:
        from importlib.metadata import version

        specification |= {"pattern": PATTERN, "tokenizers": version("tokenizers")}
    return digest(FORMAT, CORPORA[data.corpus].digest(), canonical_json(specification))


def load(data: Data, cache_dir: Path) -> Dataset:
    """The dataset, prepared in `cache_dir/<data_digest>` when it is not there whole; then memory-mapped.

    Raises: DataError if the corpus is missing, a split has no document, the vocabulary cannot be filled or the
    folder cannot be written.
    """
    name = data_digest(data)
    folder = cache.entry(cache_dir, name, lambda: _prepare(data))
    streams = json.loads((folder / "streams.json").read_bytes())
    merged = json.loads((folder / "tokenizer.json").read_bytes())["merged"]
    splits = {split: _open(folder, split, streams[split]) for split in SPLITS}
    return Dataset(
        **splits,
        tokenizer=Tokenizer(tuple(bytes.fromhex(token) for token in merged)),
        digest=name,
        entropy_bits_per_byte=CORPORA[data.corpus].entropy_bits_per_byte,
    )


def split_of(document: Document, data: Data) -> SplitName:
    """Decided by the document's name and content alone, so no other document moves it.

    Test and validation grow from opposite ends, so neither fraction changes what the other holds.
    """
    share = int(document.digest, 16) / 16 ** len(document.digest)
    if share < data.test_fraction:
        return "test"
    return "validation" if share >= 1 - data.validation_fraction else "train"


def _prepare(data: Data) -> dict[str, bytes]:
    """The files of a prepared dataset."""
    documents = CORPORA[data.corpus].documents()
    members: dict[SplitName, list[Document]] = {split: [] for split in SPLITS}
    for document in documents:
        members[split_of(document, data)].append(document)
    for split in SPLITS:
        if not members[split]:
            raise DataError(_no_document(split, data, len(documents)))
    tokenizer = train_tokenizer([document.content.decode() for document in members["train"]], data.vocabulary_tokens)
    files: dict[str, bytes] = {}
    streams = {}
    for split in SPLITS:
        tokens, starts = _stream(members[split], tokenizer)
        files[f"{split}.tokens"] = tokens.astype("<u2").tobytes()
        streams[split] = {"documents": [document.name for document in members[split]], "starts": starts.tolist()}
    merged = [token.hex() for token in tokenizer.merged]
    return {
        **files,
        "streams.json": canonical_json(streams).encode(),
        "tokenizer.json": canonical_json({"merged": merged}).encode(),
    }


def _stream(documents: Iterable[Document], tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """All tokens, uint16 (S,), and where documents start, int64 (D+1,)."""
    separator = np.array([SEPARATOR], dtype=np.uint16)
    parts = [np.concatenate([tokenizer.encode(document.content.decode()), separator]) for document in documents]
    return np.concatenate(parts), np.cumsum([0, *(part.size for part in parts)], dtype=np.int64)


def _open(folder: Path, split: SplitName, stream: dict[str, list]) -> Split:
    return Split(
        name=split,
        # A plain array over the map: subclasses of arrays slow down indexing and pickle oddly.
        tokens=np.asarray(np.memmap(folder / f"{split}.tokens", dtype="<u2", mode="r")),
        documents=tuple(stream["documents"]),
        document_starts=np.array(stream["starts"], dtype=np.int64),
    )


def _no_document(split: SplitName, data: Data, num_documents: int) -> str:
    if split == "train":
        setting, remedy = "validation_fraction", "lower it"
    else:
        setting, remedy = f"{split}_fraction", "raise it"
    return (
        f"data.{setting}: {getattr(data, setting)}; of {num_documents} documents none falls to the {split} split, "
        f"which needs one; {remedy}"
    )
