"""Tokens: no text is lost, and two libraries agree on them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blueberry.errors import DataError
from blueberry.text.corpus import CORPORA
from blueberry.text.tokenizer import (
    SEPARATOR,
    Tokenizer,
    learn,
    read_tokenizer,
    tokenizer_json,
    tokens_of,
    train_tokenizer,
    write_tokenizer,
)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [document.content.decode() for document in CORPORA["python-stdlib"].documents()[::24]]


@pytest.fixture(scope="module")
def learner(texts):
    return learn(texts, 700)


@pytest.fixture(scope="module")
def tokenizer(texts) -> Tokenizer:
    return train_tokenizer(texts, 700)


BYTES = Tokenizer()
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
CODE_LIKE = st.text("abe_(.:#'\n\t\r 01é¾ \N{IDEOGRAPHIC SPACE}日\N{GRINNING FACE}", max_size=60)


def test_vocabulary_is_exact_and_begins_with_the_bytes(tokenizer):
    assert tokenizer.vocabulary_tokens == len(tokenizer.tokens) == len(set(tokenizer.tokens)) == 700
    assert tokenizer.tokens[:256] == tuple(bytes([byte]) for byte in range(256))
    assert all(len(token) >= 2 for token in tokenizer.merged)


def test_training_is_deterministic(texts, tokenizer):
    assert train_tokenizer(texts, 700) == tokenizer
    assert train_tokenizer(texts[::-1], 700) == tokenizer


def test_tiktoken_and_tokenizers_agree_on_documents(texts, tokenizer, learner):
    by_number = tokens_of(learner)
    for text in texts:
        learned = [by_number[number] for number in learner.encode(text).ids]
        assert [tokenizer.tokens[number] for number in tokenizer.encode(text)] == learned


@settings(max_examples=100, deadline=None)
@given(text=ANY_TEXT | CODE_LIKE)
def test_tiktoken_and_tokenizers_agree_on_any_text(tokenizer, learner, text):
    by_number = tokens_of(learner)
    learned = [by_number[number] for number in learner.encode(text).ids]
    assert [tokenizer.tokens[number] for number in tokenizer.encode(text)] == learned


@settings(max_examples=100, deadline=None)
@given(text=ANY_TEXT | CODE_LIKE)
def test_round_trip_is_exact(tokenizer, text):
    for each in (tokenizer, BYTES):
        ids = each.encode(text)
        assert ids.dtype == np.uint16
        assert each.decode(ids) == text
        assert sum(len(each.tokens[token]) for token in ids) == len(text.encode())


@pytest.mark.parametrize("piece", ["a", " ", "\n", " \n\t", "!", "é", "0", "<|endoftext|>"])
def test_long_runs_neither_overflow_nor_crawl(tokenizer, piece):
    text = piece * (300_000 // len(piece)) + "x"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_merges_compress_and_encode_what_was_seen(texts, tokenizer):
    num_bytes = sum(len(text.encode()) for text in texts)
    num_tokens = sum(tokenizer.encode(text).size for text in texts)
    assert num_bytes / num_tokens > 2


def test_token_bytes_count_text_and_the_separator_is_none(tokenizer):
    assert tokenizer.token_bytes.dtype == np.int32
    assert tokenizer.token_bytes.shape == (700,)
    assert tokenizer.token_bytes[SEPARATOR] == 0
    text = "déjà vu\n" * 3
    assert tokenizer.token_bytes[tokenizer.encode(text)].sum() == len(text.encode())
    assert not [token for token in tokenizer.merged if b"\0" in token]


def test_bytes_are_a_tokenizer_without_merges():
    assert train_tokenizer(["whatever"], 256) == BYTES
    assert BYTES.encode("aé").tolist() == [97, 0xC3, 0xA9]
    assert BYTES.encode("").tolist() == []


def test_tokens_cut_within_a_character_still_print():
    assert BYTES.decode([97, 0xC3]) == "a\N{REPLACEMENT CHARACTER}"


def test_a_vocabulary_the_texts_cannot_fill_is_refused_with_one_that_they_can():
    few = ["abab cdcd abab"]
    with pytest.raises(
        DataError,
        match=r"^data\.vocabulary_tokens: 4096; [^;\n]* only (\d+); set \1 or fewer, or data.pad_vocabulary = true$",
    ) as caught:
        train_tokenizer(few, 4096)
    most = int(str(caught.value).split("only ")[1].split(";")[0])
    assert train_tokenizer(few, most).vocabulary_tokens == most > 256


def test_a_lone_surrogate_is_refused(tokenizer):
    with pytest.raises(DataError, match=r"^text: '\\udc80' at character 1; "):
        tokenizer.encode("a\udc80")


def test_a_vocabulary_that_the_text_cannot_fill_is_filled_when_that_is_asked_for():
    texts = ["ab ab ab cd cd"] * 3
    with pytest.raises(DataError, match=r"or data\.pad_vocabulary = true"):
        train_tokenizer(texts, 400)
    padded, plain = train_tokenizer(texts, 400, pad=True), train_tokenizer(texts, 258)
    assert padded.vocabulary_tokens == len(padded.token_bytes) == len(padded.tokens) == 400
    assert padded.num_unused > 100
    assert padded.merged[:2] == plain.merged
    assert (padded.token_bytes[-padded.num_unused :] == 0).all()
    assert padded.decode(padded.encode("ab cd x")) == "ab cd x"
    assert padded.encode("ab cd x").max() < 400 - padded.num_unused
    assert read_tokenizer(write_tokenizer(padded)) == padded
    assert train_tokenizer(texts, 257, pad=True).num_unused == 0
    import tokenizers

    theirs = tokenizers.Tokenizer.from_str(tokenizer_json(padded))
    assert theirs.encode("ab cd x", add_special_tokens=False).ids == padded.encode("ab cd x").tolist()
