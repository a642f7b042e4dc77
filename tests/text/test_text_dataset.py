"""Documents to streams: nothing lost, nothing shared, named by content."""

import subprocess
import sys

import numpy as np
import pytest

from blueberry.errors import DataError
from blueberry.settings import Data
from blueberry.text import dataset
from blueberry.text.corpus import CORPORA, Corpus, Document
from blueberry.text.dataset import Dataset, data_digest, load, split_of
from blueberry.text.tokenizer import SEPARATOR
from blueberry.text.windows import evaluation_set, overlap

SYNTHETIC = Data(corpus="synthetic", tokenizer="byte")


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def stdlib(prepared) -> Dataset:
    return load(Data(), prepared / "data")


@pytest.fixture(scope="module")
def synthetic(cache_dir) -> Dataset:
    return load(SYNTHETIC, cache_dir)


def splits(loaded: Dataset):
    return (loaded.train, loaded.validation, loaded.test)


@pytest.fixture
def corpus(monkeypatch):
    """Replace the synthetic corpus by a list of documents that a test may change."""
    documents = [Document(f"d{index}", f"document {index} says {index * index}\n".encode()) for index in range(200)]
    replacement = Corpus(lambda: tuple(documents), lambda: dataset.digest(repr(documents)))
    monkeypatch.setitem(CORPORA, "synthetic", replacement)
    return documents


@pytest.mark.parametrize("which", ["stdlib", "synthetic"])
def test_streams_hold_every_document_once(which, request):
    loaded: Dataset = request.getfixturevalue(which)
    content = {document.name: document.content.decode() for document in CORPORA[loaded_corpus(which)].documents()}
    names = [name for split in splits(loaded) for name in split.documents]
    assert sorted(names) == sorted(content)
    assert len(set(names)) == len(names)
    for split in splits(loaded):
        assert list(split.documents) == sorted(split.documents)
        assert split.tokens.dtype == np.uint16
        assert split.document_starts.dtype == np.int64
        assert split.document_starts[0] == 0
        assert split.document_starts[-1] == split.tokens.size
        assert (split.tokens == SEPARATOR).sum() == len(split.documents)
        for name, start, end in zip(split.documents, split.document_starts, split.document_starts[1:], strict=False):
            assert split.tokens[end - 1] == SEPARATOR
            assert loaded.tokenizer.decode(split.tokens[start : end - 1]) == content[name]


def loaded_corpus(which: str) -> str:
    return "python-stdlib" if which == "stdlib" else which


def test_bytes_of_a_stream_are_the_bytes_of_its_documents(stdlib):
    content = {document.name: document.content for document in CORPORA["python-stdlib"].documents()}
    for split in splits(stdlib):
        assert stdlib.tokenizer.token_bytes[split.tokens].sum() == sum(len(content[name]) for name in split.documents)


def test_fractions_are_kept_about(stdlib, synthetic):
    for loaded, tolerance in ((stdlib, 0.06), (synthetic, 0.03)):
        total = sum(len(split.documents) for split in splits(loaded))
        assert len(loaded.validation.documents) / total == pytest.approx(0.1, abs=tolerance)
        assert len(loaded.test.documents) / total == pytest.approx(0.05, abs=tolerance)


def test_a_dataset_says_what_it_is(stdlib, synthetic):
    assert stdlib.digest == data_digest(Data())
    assert stdlib.tokenizer.vocabulary_tokens == 512 == stdlib.tokenizer.token_bytes.size
    assert stdlib.entropy_bits_per_byte is None
    assert synthetic.tokenizer.vocabulary_tokens == 256
    assert synthetic.entropy_bits_per_byte == 127 / 64
    assert [split.name for split in splits(stdlib)] == ["train", "validation", "test"]


def test_tokens_are_mapped_and_cannot_be_written(stdlib):
    base = stdlib.train.tokens
    assert type(base) is np.ndarray
    assert isinstance(base.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        base[0] = 1


def test_the_tokenizer_sees_training_documents_only(corpus, tmp_path):
    data = Data(corpus="synthetic", vocabulary_tokens=300)
    before = load(data, tmp_path)
    held_out = [index for index, document in enumerate(corpus) if split_of(document, data) != "train"]
    strange = (Document(f"strange{n}", b"zqzq " * 500 + str(n).encode()) for n in range(10**6))
    for index in held_out:  # other documents, which stay held out
        which = split_of(corpus[index], data)
        corpus[index] = next(document for document in strange if split_of(document, data) == which)
    after = load(data, tmp_path)
    assert after.digest != before.digest
    assert after.tokenizer == before.tokenizer
    np.testing.assert_array_equal(after.train.tokens, before.train.tokens)
    assert after.validation.tokens.size != before.validation.tokens.size


def test_a_documents_split_depends_on_it_alone(corpus):
    data = Data()
    where = {document.name: split_of(document, data) for document in corpus}
    assert set(where.values()) == {"train", "validation", "test"}
    renamed = [Document(f"x{document.name}", document.content) for document in corpus]
    rewritten = [Document(document.name, document.content + b"more") for document in corpus]
    for changed in (renamed, rewritten):
        moved = [a for a, b in zip(corpus, changed, strict=True) if where[a.name] != split_of(b, data)]
        assert moved
    for grown in ("validation", "test"):
        wider = data.model_copy(update={f"{grown}_fraction": 0.3})
        moved = [(where[document.name], split_of(document, wider)) for document in corpus]
        assert {pair for pair in moved if pair[0] != pair[1]} == {("train", grown)}


def test_digest_names_all_that_decides_the_tokens(corpus, monkeypatch):
    base = Data(corpus="synthetic")
    variants = [
        base,
        base.model_copy(update={"vocabulary_tokens": 1024}),
        base.model_copy(update={"validation_fraction": 0.2}),
        base.model_copy(update={"test_fraction": 0.2}),
        Data(corpus="synthetic", tokenizer="byte"),
        Data(),
    ]
    digests = [data_digest(data) for data in variants]
    assert len(set(digests)) == len(variants)
    corpus[0] = Document("d0", b"changed")
    assert data_digest(base) not in digests
    bpe, bytewise = data_digest(base), data_digest(variants[4])
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0")
    assert data_digest(base) != bpe
    assert data_digest(variants[4]) == bytewise, "bytes need no tokenizers"


def test_the_digest_needs_no_tokenizer_and_nothing_needs_torch(tmp_path):
    script = """
import sys
from blueberry.settings import Data
from blueberry.text.dataset import data_digest, load
data_digest(Data())
assert not {"tokenizers", "tiktoken", "torch", "scipy"} & sys.modules.keys()
load(Data(corpus="synthetic", tokenizer="byte"), __import__("pathlib").Path(sys.argv[1]))
assert not {"tokenizers", "tiktoken", "torch", "scipy"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script, str(tmp_path)], check=True, timeout=60)


def test_loading_again_reads_what_was_prepared(prepared, stdlib, monkeypatch):
    monkeypatch.setattr(dataset, "prepare", lambda *given: pytest.fail("prepared twice"))
    again = load(Data(), prepared / "data")
    assert again.tokenizer == stdlib.tokenizer
    for a, b in zip(splits(again), splits(stdlib), strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)
        assert a.documents == b.documents


def test_a_truncated_stream_is_prepared_again(corpus, tmp_path):
    data = Data(corpus="synthetic", vocabulary_tokens=270)
    before = load(data, tmp_path)
    expected = before.train.tokens.copy()
    path = tmp_path / before.digest / "train.tokens"
    body = path.read_bytes()
    path.unlink()  # the map of the first still holds the old file
    path.write_bytes(body[:-2])
    np.testing.assert_array_equal(load(data, tmp_path).train.tokens, expected)


def test_a_split_without_documents_is_refused(corpus, tmp_path):
    data = Data(corpus="synthetic", test_fraction=1e-6)
    message = r"^data\.test_fraction: 1e-06; of 200 documents none falls to the test split, which needs one; raise it$"
    with pytest.raises(DataError, match=message):
        load(data, tmp_path)
    del corpus[1:]
    with pytest.raises(DataError, match=r"^data\.(test|validation)_fraction: [^\n]*; raise it$"):
        load(Data(corpus="synthetic"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_the_corpus_cannot_fill_is_refused(corpus, tmp_path):
    with pytest.raises(DataError, match=r"^data\.vocabulary_tokens: 65536; "):
        load(Data(corpus="synthetic", vocabulary_tokens=65536), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_held_out_windows_are_rare_in_training(stdlib):
    """What the leak audit needs: few 13-token runs of validation occur in training."""
    found = overlap(stdlib.train, stdlib.validation, context_tokens=64, num_tokens=50_000)
    assert 0.005 < found.ngrams < 0.08
    assert found.windows < 0.03


def test_evaluation_covers_many_documents(stdlib):
    chosen = evaluation_set(stdlib.validation, context_tokens=64, num_tokens=16_384)
    assert chosen.windows.shape == (256, 65)
    assert np.unique(chosen.document_of).size > 0.7 * len(stdlib.validation.documents)
