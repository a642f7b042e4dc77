"""Texts on this disk: what is read of them, how they are named, and what is said when they cannot be read."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from blueberry.errors import DataError
from blueberry.settings import Data, Files
from blueberry.text import files
from blueberry.text.dataset import data_digest, load
from blueberry.text.files import rows
from blueberry.text.windows import evaluation_set


def words(number: int) -> str:
    return f"document {number} tells of {number * number} things and of {number % 7} others, no more.\n"


def data_of(*paths, **more) -> Data:
    held = {"format", "text_column", "delimiter"}
    section = Files(paths=tuple(map(str, paths)), **{k: v for k, v in more.items() if k in held})
    others = {"test_fraction": 0.2, **{name: value for name, value in more.items() if name not in held}}
    return Data(corpus="files", tokenizer="byte", files=section, **others)


@pytest.fixture
def folder(tmp_path):
    """The same 90 documents as text files, as one text, as JSON Lines and, where pyarrow is, as Parquet."""
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    for number in range(90):
        where = "texts/deep" if number >= 45 else "texts"
        (tmp_path / where / f"{number:03d}.txt").write_text(words(number))
    (tmp_path / "one.txt").write_text("<end>".join(words(number) for number in range(90)))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"id": n, "text": words(n)}) + "\n" for n in range(90)))
    return tmp_path


def texts_of(dataset):
    return sorted(
        dataset.tokenizer.decode(split.tokens[start : end - 1])
        for split in (dataset.train, dataset.validation, dataset.test)
        for start, end in zip(split.document_starts, split.document_starts[1:], strict=False)
    )


EVERY = sorted(words(number) for number in range(90))


def test_all_forms_of_one_text_give_the_same_documents_and_splits(folder):
    loaded = [
        load(data, folder / "cache")
        for data in (
            data_of(folder / "texts/*.txt", folder / "texts/deep/*.txt"),
            data_of(folder / "one.txt", delimiter="<end>"),
            data_of(folder / "rows.jsonl"),
        )
    ]
    for dataset in loaded:
        assert texts_of(dataset) == EVERY
        np.testing.assert_array_equal(dataset.train.tokens, loaded[0].train.tokens)
        np.testing.assert_array_equal(dataset.test.tokens, loaded[0].test.tokens)
    assert len({dataset.digest for dataset in loaded}) == 3
    assert loaded[2].train.documents[0].startswith("rows.jsonl:")


def test_parquet_gives_the_same_documents(folder):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"id": list(range(91)), "text": [*map(words, range(90)), None]})
    parquet.write_table(table, folder / "rows.parquet", row_group_size=7)
    dataset = load(data_of(folder / "rows.parquet"), folder / "cache")
    assert texts_of(dataset) == EVERY
    with pytest.raises(
        DataError, match=r'rows\.parquet: no column "body"; it has id, text; set data\.files\.text_column'
    ):
        load(data_of(folder / "rows.parquet", text_column="body"), folder / "cache")
    with pytest.raises(DataError, match=r'row 1: column "id" holds int; a document is a text'):
        load(data_of(folder / "rows.parquet", text_column="id"), folder / "cache")
    (folder / "bad.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(DataError, match=r"^\S+bad\.parquet: not a Parquet file \([^\n]*\); write it anew$"):
        load(data_of(folder / "bad.parquet"), folder / "cache")


def test_without_pyarrow_the_line_names_the_extra(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (folder / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"needs the package pyarrow, .*; pip install 'blueberry-lm\[parquet\]'"):
        load(data_of(folder / "rows.parquet"), folder / "cache")


@pytest.mark.parametrize(
    ("name", "content", "settings", "line"),
    [
        ("a.jsonl", b'{"text": "x"}\n\n{"text": \n', {}, "a.jsonl:3: not valid JSON (Expecting value); each line is one object; mend it"),
        ("a.jsonl", b'["x"]\n', {}, 'a.jsonl:1: list; each line is one object such as {"text": "..."}; mend it'),
        ("a.jsonl", b'{"body": "x"}\n', {}, 'a.jsonl:1: no column "text"; it has body; set data.files.text_column to the one that holds the text'),
        ("a.jsonl", b'{"text": 3}\n', {}, 'a.jsonl:1: column "text" holds int; a document is a text; set text_column to the one that holds text'),
        ("a.jsonl", b'{"text": "\\ud800"}\n', {}, 'a.jsonl:1: column "text" holds half a character; UTF-8 cannot; mend that row'),
        ("a.jsonl", b'{"text": "\xff"}\n', {}, "a.jsonl:1: not valid JSON (not UTF-8 text or nested too deeply); each line is one object; mend it"),
        ("a.txt", b"good \xe9 bad", {}, None),
        ("a.txt", b"", {}, None),
        ("a.txt", b"one document only", {}, None),
        ("a.txt", b"text", {"text_column": "body"}, None),
        ("a.jsonl", b'{"text": "x"}\n', {"delimiter": "x"}, None),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line_that_says_where(tmp_path, name, content, settings, line):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        load(data_of(tmp_path / name, **settings), tmp_path / "cache")
    said = str(error.value)
    assert "\n" not in said
    assert said.count(";") >= 2
    assert line is None or said == f"{tmp_path}/{line}"
    assert line is not None or "data.files" in said
    assert [path for path in (tmp_path / "cache").glob("*") if path.is_dir()] == []


@pytest.mark.parametrize(
    ("given", "rule"),
    [("none.txt", "no such file from"), ("none/*.txt", "matches no file from"), (".", "is a folder; give its files"), ("a\0b", "holds no NUL")],
)  # fmt: skip
def test_a_path_that_leads_nowhere_names_the_setting(tmp_path, monkeypatch, given, rule):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"^data.files.paths: .*{rule}"):
        data_digest(data_of(given))


def test_the_digest_follows_content_and_order_not_places(folder):
    texts = data_of(folder / "texts/*.txt")
    before = data_digest(texts)
    (folder / "texts").rename(folder / "moved")
    assert data_digest(data_of(folder / "moved/*.txt")) == before
    assert load(data_of(folder / "moved/*.txt"), folder / "cache").digest == before
    (folder / "moved/000.txt").write_text("changed")
    assert data_digest(data_of(folder / "moved/*.txt")) != before
    assert data_digest(data_of(folder / "rows.jsonl")) != data_digest(data_of(folder / "rows.jsonl", format="text"))


def test_a_file_is_digested_once_until_it_changes(folder, monkeypatch):
    cache = folder / "cache"
    cache.mkdir()
    path = folder / "rows.jsonl"
    os.utime(path, (1, 1))
    monkeypatch.setattr(files, "_SETTLED_SECONDS", -1.0)
    before = data_digest(data_of(path), cache)
    with monkeypatch.context() as context:
        context.setattr(files.hashlib, "file_digest", lambda *_: pytest.fail("read again"))
        assert data_digest(data_of(path), cache) == before
    content = path.read_bytes()
    path.write_bytes(content[:-2] + b" \n")  # as long as before, and as old
    os.utime(path, (1, 1))
    assert data_digest(data_of(path), cache) != before
    (cache / "file-digests.json").write_text("not JSON")
    path.write_bytes(content)
    assert data_digest(data_of(path), cache) == before == data_digest(data_of(path))


def test_a_file_just_written_is_not_believed_by_its_times(folder):
    cache = folder / "cache"
    cache.mkdir()
    data_digest(data_of(folder / "rows.jsonl"), cache)
    assert not (cache / "file-digests.json").exists()


def test_files_that_change_while_they_are_read_are_refused(folder, monkeypatch):
    path = folder / "rows.jsonl"
    read = rows

    def grown(*given):
        yield from read(*given)
        path.write_text(path.read_text() + json.dumps({"text": "late"}) + "\n")

    monkeypatch.setattr(files, "rows", grown)
    with pytest.raises(DataError, match=r"^data: files changed while they were read"):
        load(data_of(path), folder / "cache")


def test_cuts_take_the_first_documents_characters_and_tokens(folder):
    first = load(data_of(folder / "rows.jsonl", max_documents=60), folder / "cache")
    assert texts_of(first) == sorted(map(words, range(60)))
    short = load(data_of(folder / "rows.jsonl", max_characters=30), folder / "cache")
    assert texts_of(short) == sorted({words(number)[:30] for number in range(90)})
    with pytest.raises(DataError, match=r"^data\.max_tokens: 90; the documents it reaches give none to the \w+ split"):
        load(data_of(folder / "rows.jsonl", max_tokens=90), folder / "cache")
    few = load(data_of(folder / "rows.jsonl", max_tokens=4000), folder / "cache")
    assert sum(split.tokens.size for split in (few.train, few.validation, few.test)) == 4000
    whole = load(data_of(folder / "rows.jsonl"), folder / "cache")
    for split in ("train", "validation", "test"):  # in the corpus's order, so the few are a beginning of the whole
        tokens = getattr(few, split).tokens
        np.testing.assert_array_equal(tokens, getattr(whole, split).tokens[: tokens.size])


def test_repeated_and_unfit_documents_are_left_out(folder):
    with (folder / "rows.jsonl").open("a") as file:
        for text in (words(3), "", "a\0b", None):
            file.write(json.dumps({"text": text}) + "\n")
    dataset = load(data_of(folder / "rows.jsonl"), folder / "cache")
    assert texts_of(dataset) == EVERY


def test_documents_may_be_joined_without_marks(folder):
    plain = load(data_of(folder / "rows.jsonl", mark_documents=False), folder / "cache")
    marked = load(data_of(folder / "rows.jsonl"), folder / "cache")
    assert (plain.train.tokens != 0).all()
    np.testing.assert_array_equal(plain.train.tokens, marked.train.tokens[marked.train.tokens != 0])
    chosen = evaluation_set(plain.validation, context_tokens=16, num_tokens=64)
    assert chosen.document_of.max() < len(plain.validation.documents)


def test_pieces_across_chunks_are_whole(tmp_path, monkeypatch):
    pieces = [f"pièce {number} " * (number % 5) for number in range(50)]
    (tmp_path / "a.txt").write_text("--é--".join(pieces))
    monkeypatch.setattr("blueberry.text.files._CHUNK_BYTES", 7)
    found = rows(tmp_path / "a.txt", Files(paths=("a",), delimiter="--é--"), "data.files")
    assert [text for _, text in found] == pieces


SCRIPT = """
import sys
from pathlib import Path
from blueberry.settings import Data, Files
from blueberry.text.dataset import load
def peak_kilobytes():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
files = Files(paths=(sys.argv[1],), delimiter=sys.argv[3] or None)
before = peak_kilobytes()
load(Data(corpus="files", tokenizer="byte", files=files, max_characters=2000), Path(sys.argv[2]))
print((peak_kilobytes() - before) // 1024)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads its own peak there")
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.txt"])
def test_preparing_a_big_file_keeps_memory_flat(tmp_path, name):
    """60 MB of rows, each cut short: what is held is a batch and the names, not the text."""
    with (tmp_path / name).open("w") as file:
        for number in range(6000):
            text = f"{number} " + "x" * 10_000
            file.write(json.dumps({"text": text}) + "\n" if name.endswith("jsonl") else text + "\n\n")
    delimiter = "" if name.endswith("jsonl") else "\n\n"
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / name), str(tmp_path / "cache"), delimiter]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert int(done.stdout) < 45, "megabytes; the file has 60"
