"""The data section of a recipe: which text, cut how, in which tokens.

Where things lie (marked `local`) is no part of a run's identity: what lies there is, through the data digest.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from blueberry.settings import Section, setting


def _local(default: Any, doc: str) -> Any:
    """A setting that says where something lies on this machine."""
    return Field(default, description=doc, json_schema_extra={"local": True})


def _later(doc: str, unit: str, **bounds: Any) -> Any:
    """A setting that recipes had not always: where it is not given, runs keep the names they had without it."""
    return Field(None, description=doc, json_schema_extra={"unit": unit, "later": True}, **bounds)


def _several(given: Any) -> Any:
    """One text for a list of one; a list as TOML gives it for a tuple."""
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


Corpus = Literal["python-stdlib", "synthetic", "files", "hugging-face"]
_CORPUS = setting(
    "python-stdlib",
    "python-stdlib: this interpreter's own library; synthetic: a language of known entropy; "
    "files: texts on this disk; hugging-face: a dataset of the hub",
)
_MAX_DOCUMENTS = setting(None, "only the first ones of the corpus", unit="documents", ge=1)
_MAX_CHARACTERS = setting(None, "only the beginning of each document", unit="characters", ge=1)
_MAX_TOKENS = setting(None, "only the first ones of the corpus, over all splits", unit="tokens", ge=1)


class Files(Section):
    """Texts on this disk. Where they lie is no part of a run's identity: their content is."""

    paths: Annotated[tuple[str, ...], BeforeValidator(_several)] = _local(
        (), "files and globs (** for any depth), relative to the current folder; a glob's files in order of their names"
    )
    format: Literal["auto", "text", "jsonl", "parquet"] = setting(
        "auto", "auto: by the file's ending, .jsonl and .ndjson, .parquet, else text; text: a file is a document"
    )
    text_column: str = setting("text", "of JSON Lines and Parquet: the column that holds a document", min_length=1)
    delimiter: str | None = setting(
        None, "of text files: what stands between the documents of one file, e.g. a blank line", min_length=1
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.paths or not all(self.paths):
            raise ValueError(f"paths: {list(self.paths)}; a corpus of files needs their paths; give some")
        if self.format == "text" and self.text_column != "text":
            raise ValueError(
                f"text_column: {self.text_column!r}; text files have no columns; remove it or change format"
            )
        if self.format in ("jsonl", "parquet") and self.delimiter is not None:
            raise ValueError(
                f"delimiter: {self.delimiter!r}; a {self.format} file has a document a row; remove it or change format"
            )
        return self


class HuggingFace(Section):
    """A dataset of the hub, streamed once into the store. Needs the extra `hf`."""

    repository: str = setting("", "owner/name, as in HuggingFaceTB/smollm-corpus")
    configuration: str | None = setting(None, "of the dataset, where it has several, as in cosmopedia-v2")
    split: str = setting("train", "of the dataset; it is split anew into training, validation and test")
    text_column: str = setting("text", "the column that holds a document", min_length=1)
    revision: str = setting("", "the commit, 40 hexadecimal digits: a branch moves, a commit does not")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require_repository(self.repository, "repository", "datasets/")
        _require_commit(self.revision, "revision", f"datasets/{self.repository}")
        return self


class MixturePart(Section):
    """One corpus of a mixture, under a name of your choice. Its validation split is also measured on its own."""

    weight: float = setting(1.0, "of its windows in training and validation, over the sum of all weights", gt=0)
    corpus: Corpus = _CORPUS
    files: Files | None = None
    hugging_face: HuggingFace | None = None
    max_documents: int | None = _MAX_DOCUMENTS
    max_characters: int | None = _MAX_CHARACTERS
    max_tokens: int | None = _MAX_TOKENS

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require_own_section(self)
        return self


class NamedSet(Section):
    """A further corpus that every evaluation measures and training never sees, under a name of your choice."""

    documents: Literal["validation", "all"] = setting(
        "validation", "validation: those that fall to no other split, so none is trained on in any corpus; all of them"
    )
    corpus: Corpus = _CORPUS
    files: Files | None = None
    hugging_face: HuggingFace | None = None
    max_documents: int | None = _MAX_DOCUMENTS
    max_characters: int | None = _MAX_CHARACTERS
    max_tokens: int | None = _MAX_TOKENS

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require_own_section(self)
        return self


class Data(Section):
    """Which text, cut how, in which tokens."""

    corpus: Corpus | Literal["mixture"] = setting(
        "python-stdlib",
        "python-stdlib: this interpreter's own library; synthetic: a language of known entropy; files: texts on this "
        "disk; hugging-face: a dataset of the hub; mixture: several of these, by weight",
    )
    files: Files | None = None
    hugging_face: HuggingFace | None = None
    mixture: dict[str, MixturePart] = setting({}, "the corpora of a mixture by name")
    sets: dict[str, NamedSet] = setting({}, "further corpora to measure by name")
    max_documents: int | None = _MAX_DOCUMENTS
    max_characters: int | None = _MAX_CHARACTERS
    max_tokens: int | None = _MAX_TOKENS
    max_train_tokens: int | None = _later(
        "only the first ones of the training split: validation, test and tokenizer stay as they are", "tokens", ge=1
    )
    tokenizer: Literal["bpe", "byte", "file", "hugging-face"] = setting(
        "bpe",
        "bpe: trained on the training documents; byte: 256 tokens; file: a tokenizer.json; hugging-face: the hub's",
    )
    tokenizer_path: str | None = _local(None, "of the tokenizer.json, for tokenizer = file")
    tokenizer_repository: str | None = setting(None, "owner/name on the hub, for tokenizer = hugging-face")
    tokenizer_revision: str | None = setting(None, "its commit, 40 hexadecimal digits")
    end_token: str | None = setting(
        None, "that ends a document, of a tokenizer not made here; left out: its own", min_length=1
    )
    mark_documents: bool = setting(True, "end each document with a token of its own; false joins them without a mark")
    vocabulary_tokens: int = setting(512, "entries of the tokenizer; 256 for byte", unit="tokens", ge=2, le=2**22)
    validation_fraction: float = setting(0.1, "of the documents, chosen by their hash, to select on", gt=0, lt=0.5)
    test_fraction: float = setting(0.05, "of the documents, chosen by their hash, never selected on", gt=0, lt=0.5)
    windows: Literal["disjoint", "overlapping"] = setting(
        "disjoint",
        "disjoint: documents are split, then cut into windows side by side; overlapping: windows that begin at every "
        "token are split at random, so nearly all validation text is trained on: only to repeat studies made that way",
    )

    @model_validator(mode="before")
    @classmethod
    def _byte_has_256(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("tokenizer") == "byte" and "vocabulary_tokens" not in given:
            return {**given, "vocabulary_tokens": 256}
        return given

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require_own_section(self)
        self._require_mixture()
        self._require_tokenizer()
        for table in ("mixture", "sets"):
            for name in getattr(self, table):
                if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}", name):
                    raise ValueError(f"{table}: {name!r}; a name is letters, digits, - and _; rename it")
        if self.max_train_tokens is not None and (self.corpus == "mixture" or self.windows == "overlapping"):
            given = "a mixture" if self.corpus == "mixture" else "overlapping windows"
            raise ValueError(
                f"max_train_tokens: {self.max_train_tokens}; {given} has no stream of its own to cut; leave it out"
            )
        for name in self.mixture.keys() & self.sets.keys():
            raise ValueError(f"sets.{name}: is in data.mixture too; each is measured under its name; rename one")
        if self.windows == "overlapping" and (self.corpus == "mixture" or self.sets):
            given = "a mixture" if self.corpus == "mixture" else "data.sets"
            raise ValueError(
                f"windows: 'overlapping'; it cannot be combined with {given}; use one corpus, or \"disjoint\""
            )
        return self

    def _require_mixture(self) -> None:
        if self.corpus != "mixture":
            if self.mixture:
                raise ValueError(
                    f'mixture: given; the corpus is {self.corpus!r}; set data.corpus = "mixture" or remove it'
                )
            return
        if not self.mixture:
            raise ValueError('corpus: "mixture"; it needs corpora to mix; add [data.mixture.NAME] tables')
        for name in ("max_documents", "max_characters", "max_tokens"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name}: {getattr(self, name)}; a mixture is cut corpus by corpus; set data.mixture.NAME.{name}"
                )

    def _require_tokenizer(self) -> None:
        for name, owner in _TOKENIZER_SETTINGS.items():
            value = getattr(self, name)
            if value is None and self.tokenizer == owner:
                raise ValueError(f"{name}: left out; data.tokenizer = {owner!r} needs it; add it")
            if value is not None and self.tokenizer != owner:
                raise ValueError(
                    f"{name}: {value!r}; the tokenizer is {self.tokenizer!r}; "
                    f'remove it or set data.tokenizer = "{owner}"'
                )
        if self.tokenizer == "hugging-face":
            _require_repository(self.tokenizer_repository or "", "tokenizer_repository", "")
            _require_commit(self.tokenizer_revision or "", "tokenizer_revision", self.tokenizer_repository or "")
        if self.end_token is not None and self.tokenizer in ("bpe", "byte"):
            raise ValueError(
                f"end_token: {self.end_token!r}; the {self.tokenizer} tokenizer has its own, the byte NUL; remove it"
            )
        if self.end_token is not None and not self.mark_documents:
            raise ValueError(f"end_token: {self.end_token!r}; mark_documents is false; remove one of them")
        if self.tokenizer == "byte" and self.vocabulary_tokens != 256:
            raise ValueError(
                f"vocabulary_tokens: {self.vocabulary_tokens}; the byte tokenizer has 256; leave it out or set 256"
            )
        if self.tokenizer == "bpe" and self.vocabulary_tokens < 256:
            raise ValueError(
                f"vocabulary_tokens: {self.vocabulary_tokens}; a bpe tokenizer begins with the 256 bytes; raise it"
            )


Source = Data | MixturePart | NamedSet
"""Whatever names one corpus."""

_TOKENIZER_SETTINGS = {
    "tokenizer_path": "file",
    "tokenizer_repository": "hugging-face",
    "tokenizer_revision": "hugging-face",
}


def _require_own_section(source: Source) -> None:
    """A corpus has the section it reads, and none that it does not."""
    for name, owner in (("files", "files"), ("hugging_face", "hugging-face")):
        given = getattr(source, name) is not None
        if given and source.corpus != owner:
            raise ValueError(f'{name}: given; the corpus is {source.corpus!r}; set corpus = "{owner}" or remove it')
        if not given and source.corpus == owner:
            needs = "paths" if owner == "files" else "repository and revision"
            raise ValueError(
                f'corpus: "{owner}"; it needs its section; set {name}.{needs.replace(" and ", f" and {name}.")}'
            )


def _require_repository(given: str, name: str, kind: str) -> None:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", given):
        raise ValueError(
            f"{name}: {given!r}; must be owner/name as in https://huggingface.co/{kind}OWNER/NAME; mend it"
        )


def _require_commit(given: str, name: str, page: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{40}", given):
        raise ValueError(
            f"{name}: {given!r}; only a commit stays what it is; give its 40 hexadecimal digits, "
            f"from https://huggingface.co/{page}/commits/main"
        )
