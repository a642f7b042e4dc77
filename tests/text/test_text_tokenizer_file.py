"""Tokenizers made elsewhere: the same tokens as the library gives, exact bytes where they can be known."""

import json
from functools import cache

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from blueberry.errors import DataError
from blueberry.settings import Data
from blueberry.text.corpus import CORPORA
from blueberry.text.dataset import data_digest, load
from blueberry.text.tokenizer import TokenizerFile, read_tokenizer, token_type, write_tokenizer
from blueberry.text.windows import evaluation_set


@cache
def texts() -> list[str]:
    return [document.content.decode() for document in CORPORA["synthetic"].documents()[:60]]


def byte_level(*, prefix=False, special=("<|endoftext|>",)) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(special),
        show_progress=False,
    )
    made.train_from_iterator(texts(), trainer)
    return made


def word_level() -> Tokenizer:
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "</s>": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def parse(made: Tokenizer, end_token=None, mark_documents=True) -> TokenizerFile:
    return TokenizerFile.parse(made.to_str(), place="t.json", end_token=end_token, mark_documents=mark_documents)


@pytest.fixture
def data(tmp_path):
    def of(made: Tokenizer, **more) -> Data:
        (tmp_path / "t.json").write_text(made.to_str())
        path = str(tmp_path / "t.json")
        size = {"vocabulary_tokens": made.get_vocab_size()}
        return Data(corpus="synthetic", tokenizer="file", tokenizer_path=path, **{**size, **more})

    return of


def test_a_dataset_holds_the_library_s_tokens_and_exact_bytes(data, tmp_path):
    made = byte_level()
    dataset = load(data(made, max_documents=60, test_fraction=0.2), tmp_path / "cache")
    content = {document.name: document.content for document in CORPORA["synthetic"].documents()}
    train = dataset.train
    end = made.token_to_id("<|endoftext|>")
    for name, start, stop in zip(train.documents, train.document_starts, train.document_starts[1:], strict=False):
        expected = [*made.encode(content[name].decode(), add_special_tokens=False).ids, end]
        assert train.tokens[start:stop].tolist() == expected
        assert dataset.tokenizer.token_bytes[train.tokens[start:stop]].sum() == len(content[name])
        assert dataset.tokenizer.decode(train.tokens[start : stop - 1]).encode() == content[name]
    assert dataset.tokenizer.separator == end
    assert dataset.tokenizer.vocabulary_tokens == 400


def test_a_tokenizer_whose_bytes_are_not_known_says_none(data, tmp_path):
    assert parse(word_level()).token_bytes is None
    assert parse(byte_level(prefix=True)).token_bytes is None
    lower = json.loads(byte_level().to_str()) | {"normalizer": {"type": "Lowercase"}}
    assert TokenizerFile(json.dumps(lower), None).token_bytes is None


def test_bytes_cover_text_in_any_script_and_added_tokens():
    made = byte_level()
    made.add_tokens([AddedToken("  added é ", normalized=False)])
    known = parse(made, mark_documents=False)
    for text in ("naïve\u3000日本\U0001f600\n\t x", "so  added é  it", "<|endoftext|>"):
        assert known.token_bytes[known.encode(text)].sum() == len(text.encode())


def test_truncation_and_padding_of_a_file_are_not_obeyed():
    made = byte_level()
    made.enable_truncation(4)
    made.enable_padding(length=50)
    assert parse(made).decode(parse(made).encode(texts()[0])) == texts()[0]


def test_the_end_token_is_found_named_or_missed():
    made = byte_level(special=("<|endoftext|>", "<stop>"))
    assert parse(made).separator == made.token_to_id("<|endoftext|>")
    assert parse(made, end_token="<stop>").separator == made.token_to_id("<stop>")
    assert parse(made, mark_documents=False).separator is None
    with pytest.raises(DataError, match=r'^data\.end_token: "<no>"; t\.json has no such token; '):
        parse(made, end_token="<no>")
    with pytest.raises(DataError, match=r"^data\.end_token: left out; t\.json has none of .*mark_documents = false$"):
        parse(byte_level(special=()))


def test_a_vocabulary_that_disagrees_names_the_setting_and_the_size(data, tmp_path):
    with pytest.raises(
        DataError, match=r"^data\.vocabulary_tokens: 512; [^;]* 400 entries; set data\.vocabulary_tokens = 400$"
    ):
        load(data(byte_level(), vocabulary_tokens=512), tmp_path / "cache")


def test_what_is_no_tokenizer_is_one_line(data, tmp_path):
    asked = data(byte_level())
    (tmp_path / "t.json").write_text('{"model": 3}')
    with pytest.raises(DataError, match=r"t\.json: not a tokenizer\.json \([^\n]*\); "):
        load(asked, tmp_path / "cache")
    (tmp_path / "t.json").unlink()
    with pytest.raises(DataError, match=r"^data\.tokenizer_path: .*no such file"):
        data_digest(asked)


def test_the_digest_follows_the_file_s_content(data, tmp_path):
    asked = data(byte_level())
    before = data_digest(asked)
    (tmp_path / "moved.json").write_bytes((tmp_path / "t.json").read_bytes())
    assert data_digest(asked.model_copy(update={"tokenizer_path": str(tmp_path / "moved.json")})) == before
    (tmp_path / "t.json").write_text(word_level().to_str())
    assert data_digest(asked) != before


def test_more_than_65536_tokens_are_stored_in_four_bytes(data, tmp_path):
    """Words numbered from 70,000 on: two bytes would fold them onto others."""
    vocabulary = {"[UNK]": 0, "</s>": 1, "filler": 69_999}
    for number, word in enumerate(sorted({word for text in texts() for word in text.split()}), 70_000):
        vocabulary[word] = number
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    size = max(vocabulary.values()) + 1
    asked = data(made, vocabulary_tokens=size, max_documents=60, test_fraction=0.2)
    dataset = load(asked, tmp_path / "cache")
    assert dataset.train.tokens.dtype == np.uint32
    assert dataset.train.tokens.max() >= 70_000
    assert 0 not in dataset.train.tokens
    assert evaluation_set(dataset.validation, context_tokens=8, num_tokens=64).windows.max() >= 70_000
    assert (token_type(65_536), token_type(65_537)) == (np.uint16, np.uint32)


@pytest.mark.parametrize("make", [byte_level, word_level], ids=["byte-level", "words"])
def test_a_tokenizer_is_written_and_read_back(make):
    made = make()
    tokenizer = parse(made)
    again = read_tokenizer(write_tokenizer(tokenizer))
    assert again == tokenizer
    assert again.encode("the end").tolist() == made.encode("the end", add_special_tokens=False).ids
