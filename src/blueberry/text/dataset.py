"""A corpus, or several, as token streams, prepared once and then memory-mapped."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from blueberry.errors import DataError
from blueberry.identity import NUMERICS, canonical_json, digest
from blueberry.settings import Data
from blueberry.text import cache
from blueberry.text.corpus import CORPORA
from blueberry.text.files import file_digest
from blueberry.text.hub import tokenizer_revision
from blueberry.text.preparation import SPLITS, WHOLE, Part, SplitName, parts, prepare, stream_file, tokenizer_path
from blueberry.text.tokenizer import PATTERN, AnyTokenizer, read_tokenizer, token_type

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
    tokenizer: AnyTokenizer
    digest: str
    entropy_bits_per_byte: float | None
    """No model can expect to pay less; None where nobody knows. See `blueberry.text.synthetic`."""

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
        "tokenizer_revision": tokenizer_revision(data, cache_dir),
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

    folder = cache.entry(cache_dir, name, build)
    written = json.loads((folder / "streams.json").read_bytes())
    tokenizer = read_tokenizer((folder / "tokenizer.json").read_bytes())
    dtype = np.dtype(token_type(tokenizer.vocabulary_tokens)).newbyteorder("<")

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
        tokenizer=tokenizer,
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
