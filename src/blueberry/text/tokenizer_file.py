"""A tokenizer made elsewhere: the `tokenizer.json` of the `tokenizers` library, with the face of our own."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from blueberry.errors import DataError
from blueberry.text.tokenizer import BYTE_OF_CHARACTER, SEPARATOR, token_type

if TYPE_CHECKING:
    import tokenizers

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
