"""The corpora that a recipe's data names, and what is taken of each."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from blueberry.errors import DataError
from blueberry.settings import Data, NamedSet, Source
from blueberry.text.corpus import CORPORA, Corpus, Document
from blueberry.text.files import files_corpus
from blueberry.text.hub import hub_corpus


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


def taken(part: Part, cache_dir: Path | None, left_out: Counter[str] | None = None) -> Iterator[Document]:
    """The documents of a corpus, cut as the recipe says, in the corpus's order.

    Left out, and counted in `left_out`: those that are empty, hold a NUL (which marks ends), or repeat another.
    Raises: DataError if no document remains, or one cannot be read.
    """
    counted: Counter[str] = Counter() if left_out is None else left_out
    seen: set[str] = set()
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
