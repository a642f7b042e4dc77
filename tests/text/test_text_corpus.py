"""What a corpus takes, leaves out and is called."""

from dataclasses import replace

import pytest

from blueberry.errors import DataError
from blueberry.text import corpus
from blueberry.text.corpus import CORPORA, NUM_SYNTHETIC_DOCUMENTS, Document, corpus_digest, documents_under


@pytest.fixture
def library(tmp_path):
    files = {
        "b.py": b"b = 1\n",
        "a.py": b"a = 1\n",
        "pack/é.py": "é = 1\n".encode(),
        "copy/of_a.py": b"a = 1\n",
        "empty.py": b"",
        "latin.py": b"x = '\xe9'\n",
        "nul.py": b"x = '\0'\n",
        "notes.txt": b"no",
        "test/test_a.py": b"t = 1\n",
        "pack/tests/test_b.py": b"t = 2\n",
        "site-packages/other.py": b"o = 1\n",
        "encodings/cp1.py": b"e = 1\n",
        "_sysconfigdata__linux_.py": b"s = 1\n",
        "config-3.11-x86_64/python-config.py": b"c = 1\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_documents_are_the_readable_distinct_python_files_in_order_of_names(library):
    assert [document.name for document in documents_under(library)] == ["a.py", "b.py", "pack/é.py"]
    assert documents_under(library)[2].content.decode() == "é = 1\n"


def test_digest_follows_names_and_contents_but_not_order(library):
    documents = documents_under(library)
    assert corpus_digest(documents) == corpus_digest(documents[::-1])
    first = documents[0]
    others = [replace(first, name="z.py"), replace(first, content=b"a = 2\n")]
    digests = {corpus_digest((changed, *documents[1:])) for changed in (first, *others)}
    assert len(digests | {corpus_digest(documents[1:])}) == 4


def test_python_stdlib_is_a_real_corpus_without_tests():
    documents = CORPORA["python-stdlib"].documents()
    names = [document.name for document in documents]
    assert names == sorted(names)
    assert 300 < len(names) < 900
    assert 5e6 < sum(len(document.content) for document in documents) < 2e7
    assert {"argparse.py", "asyncio/events.py"} <= set(names)
    assert not [name for name in names if {"test", "tests", "site-packages", "idlelib"} & set(name.split("/"))]
    assert CORPORA["python-stdlib"].digest() == corpus_digest(documents)
    assert CORPORA["python-stdlib"].entropy_bits_per_byte is None


def test_synthetic_corpus_has_its_documents_and_entropy():
    documents = CORPORA["synthetic"].documents()
    assert len(documents) == NUM_SYNTHETIC_DOCUMENTS
    assert [document.name for document in documents] == sorted(document.name for document in documents)
    assert corpus_digest(documents) == "4363b35127dce163"
    # What names the corpus is not read off the documents; so when this fails, rename the language.
    assert CORPORA["synthetic"].digest() == "d3e26d2b70ebf530"
    assert CORPORA["synthetic"].entropy_bits_per_byte == 127 / 64


def test_a_python_without_sources_is_the_users_to_mend(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda name: str(tmp_path / "zipped"))
    with pytest.raises(DataError, match=r'^data\.corpus: "python-stdlib"; .*; .*data\.corpus = "synthetic"$'):
        corpus._python_stdlib.__wrapped__()


def test_an_unreadable_library_is_the_users_to_mend(library, monkeypatch):
    (library / "gone.py").symlink_to(library / "nowhere.py")
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda name: str(library))
    with pytest.raises(DataError, match=r"gone\.py cannot be read"):
        corpus._python_stdlib.__wrapped__()


def test_a_documents_digest_keeps_name_and_content_apart():
    assert Document("ab", b"c").digest != Document("a", b"bc").digest
