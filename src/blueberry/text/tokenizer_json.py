"""Our tokenizer as a `tokenizer.json`, the format of Hugging Face's `tokenizers`."""

from typing import TYPE_CHECKING

from blueberry.text.preparation import AnyTokenizer
from blueberry.text.tokenizer import BYTE_OF_CHARACTER, PATTERN, Tokenizer
from blueberry.text.tokenizer_file import TokenizerFile

if TYPE_CHECKING:
    import tokenizers


def tokenizer_json(tokenizer: AnyTokenizer) -> str:
    """The content of a `tokenizer.json` that encodes as ours does, with the same token numbers."""
    if isinstance(tokenizer, TokenizerFile):
        return tokenizer.content
    return _rebuilt(tokenizer).to_str(pretty=True)


def _rebuilt(tokenizer: Tokenizer) -> "tokenizers.Tokenizer":
    """Ours merges whatever two neighbours make a token, the lowest number first; theirs lists what may be merged."""
    from tokenizers import Regex, decoders, models
    from tokenizers import Tokenizer as Theirs
    from tokenizers.pre_tokenizers import ByteLevel, Split
    from tokenizers.pre_tokenizers import Sequence as InTurn

    printed = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}

    def written(token: bytes) -> str:
        return "".join(printed[byte] for byte in token)

    known = set(tokenizer.tokens)
    merges = [
        (written(token[:cut]), written(token[cut:]))
        for token in tokenizer.merged
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]
    vocabulary = {written(token): number for number, token in enumerate(tokenizer.tokens)}
    rebuilt = Theirs(models.BPE(vocab=vocabulary, merges=merges))
    pieces = [Split(Regex(PATTERN), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    rebuilt.pre_tokenizer = InTurn(pieces)  # pyright: ignore[reportAttributeAccessIssue]
    rebuilt.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    return rebuilt
