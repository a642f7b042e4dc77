import random

import pytest
import tokenizers

from blueberry.errors import DataError
from blueberry.text.corpus import CORPORA
from blueberry.text.tokenizer import Tokenizer, TokenizerFile, tokenizer_json, train_tokenizer


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


def test_ours_is_taken_back_with_its_own_end_of_a_document(texts):
    ours = train_tokenizer(texts[::2], 300)
    content = tokenizer_json(ours)
    taken = TokenizerFile.parse(content, place="exported", end_token=None, mark_documents=True)
    assert taken.separator == ours.separator
    assert taken.vocabulary_tokens == ours.vocabulary_tokens
    assert taken.token_bytes is not None
    assert taken.token_bytes.tolist() == ours.token_bytes.tolist()
    mixed = content.replace('"Ā": 0', '"Ā": 1').replace('"ā": 1', '"ā": 0')
    with pytest.raises(DataError, match="end_token: left out"):
        TokenizerFile.parse(mixed, place="another's", end_token=None, mark_documents=True)
