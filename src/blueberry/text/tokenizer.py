"""Byte-level byte-pair encoding: `tokenizers` learns the merges, `tiktoken` encodes with them, eight times as fast.

Tokens 0 to 255 are the bytes, in order; token 256 + i is what the i-th merge made. A byte tokenizer is one
without merges. Token 0, the byte NUL, ends every document of a token stream: no document holds that byte, so
no merge contains it and no entry is spent on an end-of-document mark.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

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

    @property
    def vocabulary_tokens(self) -> int:
        return NUM_BYTES + len(self.merged)

    @cached_property
    def tokens(self) -> tuple[bytes, ...]:
        """The bytes of every token."""
        return (*(bytes([byte]) for byte in range(NUM_BYTES)), *self.merged)

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
            mergeable_ranks={token: rank for rank, token in enumerate(self.tokens)},
            special_tokens={},
            explicit_n_vocab=self.vocabulary_tokens,
        )


def token_type(vocabulary_tokens: int) -> type[np.uint16] | type[np.uint32]:
    """The smallest kind of integer that holds every token."""
    return np.uint16 if vocabulary_tokens <= 1 << 16 else np.uint32


def train_tokenizer(texts: Iterable[str], vocabulary_tokens: int) -> Tokenizer:
    """The most frequent merges of these texts; a function of the texts and the version of `tokenizers`.

    Raises: DataError if the texts have too few pairs that occur twice to fill the vocabulary.
    """
    assert vocabulary_tokens >= NUM_BYTES
    if vocabulary_tokens == NUM_BYTES:
        return Tokenizer()
    learned = tokens_of(learn(texts, vocabulary_tokens))
    if len(learned) < vocabulary_tokens:
        raise DataError(
            f"data.vocabulary_tokens: {vocabulary_tokens}; the training documents give only {len(learned)}; "
            f"set {len(learned)} or fewer"
        )
    return Tokenizer(tuple(learned[NUM_BYTES:]))


def learn(texts: Iterable[str], vocabulary_tokens: int) -> "tokenizers.Tokenizer":
    """At most `vocabulary_tokens`, fewer where no pair is left that occurs twice."""
    from tokenizers import Regex, models, trainers
    from tokenizers import Tokenizer as Learner
    from tokenizers.pre_tokenizers import ByteLevel, Split
    from tokenizers.pre_tokenizers import Sequence as InTurn

    learner = Learner(models.BPE())
    pieces = [Split(Regex(PATTERN), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    learner.pre_tokenizer = InTurn(pieces)  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_tokens,
        min_frequency=2,
        initial_alphabet=ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return learner


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
