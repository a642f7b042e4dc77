import random

import pytest
import tokenizers

from blueberry.text import Tokenizer
from blueberry.text.corpus import CORPORA
from blueberry.text.tokenizer import train_tokenizer
from blueberry.text.tokenizer_json import tokenizer_json


@pytest.fixture(scope="module")
def texts():
    documents = CORPORA["python-stdlib"].documents()
    return [document.content.decode() for document in documents[::25]]


@pytest.mark.parametrize("vocabulary_tokens", [256, 700])
def test_it_encodes_as_ours_does(texts, vocabulary_tokens):
    ours = train_tokenizer(texts[::2], vocabulary_tokens) if vocabulary_tokens > 256 else Tokenizer()
    theirs = tokenizers.Tokenizer.from_str(tokenizer_json(ours))
    draw = random.Random(0)
    strange = [
        "",
        "\0",
        "a\0b",
        " " * 600,
        "\u4f60\u597d \U0001f600",
        "".join(chr(draw.randrange(1, 0xD800)) for _ in range(500)),
    ]
    for text in [*texts[1::2], *strange]:
        ids = ours.encode(text).tolist()
        assert theirs.encode(text).ids == ids
        assert theirs.decode(ids, skip_special_tokens=False) == text
    assert theirs.get_vocab_size() == ours.vocabulary_tokens
