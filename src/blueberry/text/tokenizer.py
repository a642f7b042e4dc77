"""Tokenizers: byte-level byte-pair encoding of our own, and those made elsewhere; both as a `tokenizer.json` too.

Of our own: `tokenizers` learns the merges, `tiktoken` encodes with them, eight times as fast. Tokens 0 to 255 are
the bytes, in order; token 256 + i is what the i-th merge made. A byte tokenizer is one without merges. Token 0, the
byte NUL, ends every document of a token stream: no document holds that byte, so no merge contains it and no entry is
spent on an end-of-document mark.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from blueberry.errors import DataError

if TYPE_CHECKING:
    import tiktoken
    import tokenizers

SEPARATOR = 0
"""The token that ends a document. It stands for no text."""

NUM_BYTES = 256

PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s{1,256}(?!\S)|\s"
"""Text is cut into these pieces and merges stay within them.

Source: GPT-2 (Radford et al. 2019), with white space bounded: looking past a million spaces overflows the stack.
"""


@dataclass(frozen=True)
class Tokenizer:
    """Text to tokens and back, without loss. Two with the same merged tokens are the same."""

    merged: tuple[bytes, ...] = ()
    """The bytes of tokens 256, 257, ..."""
    separator: int | None = SEPARATOR
    """The token that ends a document; None where documents are joined without a mark."""
    num_unused: int = 0
    """Entries after those, which stand for no text: they fill a vocabulary up."""

    @property
    def vocabulary_tokens(self) -> int:
        return NUM_BYTES + len(self.merged) + self.num_unused

    @cached_property
    def tokens(self) -> tuple[bytes, ...]:
        """The bytes of every token."""
        return (*(bytes([byte]) for byte in range(NUM_BYTES)), *self.merged, *(b"",) * self.num_unused)

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """Bytes of text each token stands for: int32 (V,). The separator stands for none."""
        sizes_V = np.array([len(token) for token in self.tokens], dtype=np.int32)
        sizes_V[SEPARATOR] = 0
        return sizes_V

    def encode(self, text: str) -> np.ndarray:
        """uint16 (S,), uint32 above 65,536 entries. A NUL in the text becomes a separator.

        Raises: DataError if the text has a lone surrogate, which UTF-8 cannot hold.
        """
        try:
            content = text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"text: {text[error.start]!r} at character {error.start}; UTF-8 cannot hold it; remove it"
            ) from None
        if not self.merged:
            return np.frombuffer(content, dtype=np.uint8).astype(np.uint16)
        return np.asarray(self._encoding.encode_ordinary(text), dtype=token_type(self.vocabulary_tokens))

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One array a text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """Tokens that end within a character, as sampled ones may, give the replacement character there."""
        tokens = self.tokens
        return b"".join(tokens[int(token)] for token in ids).decode(errors="replace")

    @cached_property
    def _encoding(self) -> "tiktoken.Encoding":
        import tiktoken

        return tiktoken.Encoding(
            "blueberry",
            pat_str=PATTERN,
            mergeable_ranks={token: rank for rank, token in enumerate(self.tokens) if token},
            special_tokens={},
            explicit_n_vocab=self.vocabulary_tokens - self.num_unused,
        )


def token_type(vocabulary_tokens: int) -> type[np.uint16] | type[np.uint32]:
    """The smallest kind of integer that holds every token."""
    return np.uint16 if vocabulary_tokens <= 1 << 16 else np.uint32


def train_tokenizer(texts: Iterable[str], vocabulary_tokens: int, *, pad: bool = False) -> Tokenizer:
    """The most frequent merges of these texts; a function of the texts and the version of `tokenizers`.

    Raises: DataError if the texts have too few pairs that occur twice to fill the vocabulary, unless `pad` fills it.
    """
    assert vocabulary_tokens >= NUM_BYTES
    if vocabulary_tokens == NUM_BYTES:
        return Tokenizer()
    learned = tokens_of(learn(texts, vocabulary_tokens))
    if len(learned) < vocabulary_tokens and not pad:
        raise DataError(
            f"data.vocabulary_tokens: {vocabulary_tokens}; the training documents give only {len(learned)}; "
            f"set {len(learned)} or fewer, or data.pad_vocabulary = true"
        )
    return Tokenizer(tuple(learned[NUM_BYTES:]), num_unused=vocabulary_tokens - len(learned))


def learn(texts: Iterable[str], vocabulary_tokens: int) -> "tokenizers.Tokenizer":
    """At most `vocabulary_tokens`, fewer where no pair is left that occurs twice."""
    from tokenizers import Tokenizer as Learner
    from tokenizers import models, trainers
    from tokenizers.pre_tokenizers import ByteLevel

    learner = Learner(models.BPE())
    learner.pre_tokenizer = _cutter()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_tokens,
        min_frequency=2,
        initial_alphabet=ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return learner


def _cutter() -> Any:
    """What cuts text into pieces by `PATTERN`, for `tokenizers`."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    return Sequence([Split(Regex(PATTERN), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


def tokens_of(learner: "tokenizers.Tokenizer") -> list[bytes]:
    """The bytes of each of its tokens by their numbers: the 256 bytes in an order of its own, then the merges."""
    by_id = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    return [bytes(BYTE_OF_CHARACTER[character] for character in token) for token, _ in by_id]


def _printed_bytes() -> list[str]:
    """The character by which `tokenizers` writes each byte: itself if printable Latin-1, else the next from 256 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(NUM_BYTES, 2 * NUM_BYTES))
    return [chr(byte if byte in printable else next(stand_ins)) for byte in range(NUM_BYTES)]


BYTE_OF_CHARACTER = {character: byte for byte, character in enumerate(_printed_bytes())}
"""How byte-level vocabularies write bytes."""


END_TOKENS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[SEP]")
"""The names under which tokenizers have their end of a document, tried in this order."""


@dataclass(frozen=True)
class TokenizerFile:
    """Text to tokens and back, as a file says. Two with the same content and mark are the same."""

    content: str
    """Of the file, JSON."""
    separator: int | None
    """The token that ends a document; None where documents are joined without a mark."""

    @classmethod
    def parse(cls, content: str, *, place: str, end_token: str | None, mark_documents: bool) -> "TokenizerFile":
        """Raises: DataError if it is not a tokenizer, or has not the end token that is asked for."""
        tokenizer = cls(content, None)
        try:
            vocabulary = tokenizer._tokenizer.get_vocab(with_added_tokens=True)
        except Exception as cause:  # the library raises bare Exceptions
            said = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
            raise DataError(f"{place}: not a tokenizer.json ({said}); save one with tokenizers, or mend it") from None
        if not mark_documents:
            return tokenizer
        if end_token is not None and end_token not in vocabulary:
            raise DataError(
                f'data.end_token: "{end_token}"; {place} has no such token; name one that it has, or set '
                "data.mark_documents = false"
            )
        separator = next((vocabulary[t] for t in ([end_token] if end_token else END_TOKENS) if t in vocabulary), None)
        if separator is None and end_token is None and _is_ours(json.loads(content), vocabulary):
            separator = SEPARATOR
        if separator is None:
            raise DataError(
                f"data.end_token: left out; {place} has none of {', '.join(END_TOKENS)}; name its token that ends a "
                "document, or set data.mark_documents = false"
            )
        return cls(content, separator)

    @cached_property
    def vocabulary_tokens(self) -> int:
        """One more than the highest token."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @cached_property
    def token_bytes(self) -> np.ndarray | None:
        """Bytes of text each token stands for: int32 (V,); None where that depends on what stands beside it.

        Known for byte-level vocabularies, which lose nothing. An added token stands for its own letters.
        """
        said: dict[str, Any] = json.loads(self.content)
        if not _is_byte_level(said):
            return None
        added = {token["id"]: token["content"] for token in said.get("added_tokens", [])}
        sizes_V = np.zeros(self.vocabulary_tokens, dtype=np.int32)
        for token, number in self._tokenizer.get_vocab(with_added_tokens=True).items():
            sizes_V[number] = len(token.encode()) if number in added else len(token)
        if self.separator is not None:
            sizes_V[self.separator] = 0
        return sizes_V

    def encode(self, text: str) -> np.ndarray:
        """Tokens (S,), uint16 or uint32. Special tokens are neither added nor, in the text, left unread."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One array a text; faster than one by one."""
        dtype = token_type(self.vocabulary_tokens)
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype=dtype) for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode([int(token) for token in ids], skip_special_tokens=False)

    @cached_property
    def _tokenizer(self) -> "tokenizers.Tokenizer":
        import tokenizers

        tokenizer = tokenizers.Tokenizer.from_str(self.content)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def _is_ours(said: dict[str, Any], vocabulary: dict[str, int]) -> bool:
    """Whether it is one of ours as `blueberry export` writes it: the bytes first, by their value, the first of which
    ends a document.
    """
    return _is_byte_level(said) and all(vocabulary.get(word) == byte for word, byte in BYTE_OF_CHARACTER.items())


def _is_byte_level(said: dict[str, Any]) -> bool:
    """Whether every text is cut into tokens whose bytes, one after another, are exactly that text's."""
    model, cutter = said.get("model") or {}, said.get("pre_tokenizer") or {}
    cutters = cutter.get("pretokenizers", []) if cutter.get("type") == "Sequence" else [cutter]
    byte_level = [one for one in cutters if one.get("type") == "ByteLevel"]
    return (
        model.get("type") == "BPE"
        and not model.get("continuing_subword_prefix")
        and not model.get("end_of_word_suffix")
        and said.get("normalizer") is None
        and bool(byte_level)
        and not any(one.get("add_prefix_space") for one in byte_level)
        and all(one.get("type") in ("ByteLevel", "Digits") or one.get("behavior") != "Removed" for one in cutters)
        and BYTE_OF_CHARACTER.keys() <= model.get("vocab", {}).keys()
    )


AnyTokenizer = Tokenizer | TokenizerFile


def write_tokenizer(tokenizer: AnyTokenizer) -> str:
    """As JSON, for `read_tokenizer`."""
    if isinstance(tokenizer, TokenizerFile):
        return json.dumps({"file": tokenizer.content, "separator": tokenizer.separator})
    unused = {"unused": tokenizer.num_unused} if tokenizer.num_unused else {}
    merged = [token.hex() for token in tokenizer.merged]
    return json.dumps({"merged": merged, "separator": tokenizer.separator, **unused})


def read_tokenizer(written: str | bytes) -> AnyTokenizer:
    said = json.loads(written)
    if "file" in said:
        return TokenizerFile(said["file"], said["separator"])
    merged = tuple(bytes.fromhex(token) for token in said["merged"])
    return Tokenizer(merged, said["separator"], said.get("unused", 0))


def tokenizer_json(tokenizer: AnyTokenizer) -> str:
    """The content of a `tokenizer.json` that encodes as ours does, with the same token numbers.

    Ours merges whatever two neighbours make a token, the lowest number first; theirs lists what may be merged.
    """
    if isinstance(tokenizer, TokenizerFile):
        return tokenizer.content
    from tokenizers import Tokenizer as Theirs
    from tokenizers import decoders, models

    printed = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}

    def written(token: bytes) -> str:
        return "".join(printed[byte] for byte in token)

    known = {token for token in tokenizer.tokens if token}
    merges = [
        (written(token[:cut]), written(token[cut:]))
        for token in tokenizer.merged
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]
    vocabulary = {written(token): number for number, token in enumerate(tokenizer.tokens) if token}
    rebuilt = Theirs(models.BPE(vocab=vocabulary, merges=merges))
    rebuilt.pre_tokenizer = _cutter()
    rebuilt.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    return rebuilt.to_str(pretty=True)
