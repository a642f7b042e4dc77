"""Files whole or not at all, what the system refuses in one line, and text that a terminal may be given."""

import errno
import json
import os
import tomllib
from uuid import uuid4

import pytest

from blueberry.errors import DataError, RecipeError, did_you_mean
from blueberry.files import (
    ABANDONED_SECONDS,
    is_missing,
    partial_folder,
    printable,
    read_toml,
    refused_as,
    sweep,
    write_whole,
)
from blueberry.recipe import setting_names


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "made" / "file"
    write_whole(path, b"before")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert os.listdir(path.parent) == ["file"]


def test_a_partial_folder_goes_unless_it_was_given_a_name(tmp_path):
    with partial_folder(tmp_path / "new") as unnamed, partial_folder(tmp_path / "new") as named:
        assert unnamed != named
        named.rename(tmp_path / "new" / "whole")
    assert os.listdir(tmp_path / "new") == ["whole"]


def test_only_what_a_writer_of_ours_left_long_ago_is_swept(tmp_path):
    mine, new = f".partial-{uuid4().hex}", f".partial-{uuid4().hex}"
    others = [".partial-mine", ".partial-backup-of-2024", f"{mine}.bak", mine[:-1], mine.upper(), "old"]
    for name in (mine, new, *others):
        (tmp_path / name).write_bytes(b"")
    for name in (mine, *others):
        os.utime(tmp_path / name, (0, (tmp_path / name).stat().st_mtime - ABANDONED_SECONDS - 60))
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([new, *others])


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "no/such/file", "\udcff"])
def test_names_no_file_can_have_are_one_line(tmp_path, name):
    with (
        pytest.raises(DataError, match=r"^it: cannot be read \([^\n]+\); mend it$"),
        refused_as(DataError, "it", "cannot be read", "mend it"),
    ):
        (tmp_path / name).read_bytes()


def test_what_may_not_be_seen_is_not_called_missing(tmp_path, monkeypatch):
    assert is_missing(tmp_path / "none")
    assert is_missing(tmp_path / ("x" * 300))
    assert not is_missing(tmp_path)

    def forbidden(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.lstat", forbidden)
        patched.setattr("pathlib.Path.open", forbidden)
        assert not is_missing(tmp_path / "none")
        with pytest.raises(RecipeError, match=r"none: cannot be read \(Permission denied\)"):
            read_toml(tmp_path / "none", RecipeError)


def test_a_mistake_of_ours_is_no_refusal_of_the_system():
    with pytest.raises(ValueError, match="ours"), refused_as(DataError, "it", "cannot be read", "mend it"):
        raise ValueError("ours")


@pytest.mark.parametrize(
    "content", [b"seed = 1\rseed = 2", b"# remark\rseed = 1", b"seed = '1\r2'", b"\xff", b"x" * 10_000_001]
)
def test_what_is_no_toml_is_one_line(tmp_path, content):
    (tmp_path / "file.toml").write_bytes(content)
    with pytest.raises(RecipeError, match=r"^\S+file.toml: [^\n]+$"):
        read_toml(tmp_path / "file.toml", RecipeError)


def test_lines_may_end_as_windows_ends_them(tmp_path):
    (tmp_path / "file.toml").write_bytes(b"\xef\xbb\xbfseed = 1\r\n[train]\r\nupdates = 2\r\n")
    assert read_toml(tmp_path / "file.toml", RecipeError) == {"seed": 1, "train": {"updates": 2}}


@pytest.mark.parametrize(
    "unfit", ["\x1b[31m", "\r", "\x00", "\x7f", "\x9b31m", "\u202e", "\u2066", "\u200f", "\u2028", "\udcff"]
)
def test_what_would_act_on_a_terminal_is_written_out(unfit):
    fit = printable(f"a {unfit} b\n\tc é 日本 👩\u200d🔬")
    assert unfit[0] not in fit
    assert fit.endswith("b\n\tc é 日本 👩\u200d🔬")
    assert json.loads(f'"{printable(unfit)}"') == unfit
    if unfit != "\udcff":
        assert tomllib.loads(f'text = "{printable(unfit)}"') == {"text": unfit}


def test_a_line_without_end_keeps_its_ends():
    fit = printable("begins " + "x" * 100_000 + " ends\nnext")
    assert len(fit) < 5_000
    assert fit.startswith("begins x")
    assert fit.endswith("x ends\nnext")
    assert printable("x" * 100_000, longest=None) == "x" * 100_000


@pytest.mark.parametrize(
    ("given", "meant"),
    [("optimizer.muon.lr", "optimizer.muon.learning_rate"), ("lr", "optimizer.muon.learning_rate"),
     ("optimizer.adamw.lr", "optimizer.adamw.learning_rate"), ("wd", "optimizer.adamw.weight_decay"),
     ("optimizer.muon.wd", "optimizer.muon.weight_decay"), ("bs", "train.batch_sequences"),
     ("train.batch_size", "train.batch_sequences"), ("train.max_steps", "train.updates"), ("steps", "train.updates"),
     ("dim", "model.width"), ("model.n_embd", "model.width"), ("model.layers", "model.num_layers"),
     ("n_head", "model.num_heads"), ("ctx", "model.context_tokens"), ("model.block_size", "model.context_tokens"),
     ("warmup", "schedule.warmup_fraction"), ("schedule.warmup_steps", "schedule.warmup_updates"),
     ("experts", "model.feed_forward.num_experts"), ("model.top_k", "model.feed_forward.top_k"),
     ("model.dropout_rate", "model.dropout"), ("dropout", "model.dropout"), ("vocab_size", "data.vocabulary_tokens"),
     ("train.seed", "seed"), ("model.wdth", "model.width"), ("modl.width", "model.width")],
)  # fmt: skip
def test_other_words_and_near_spellings_are_understood(given, meant):
    assert did_you_mean(given, setting_names()) == f'; did you mean "{meant}"?'


def test_what_is_no_setting_here_is_explained_and_what_is_near_nothing_lists_its_section():
    assert "micro_batch_sequences is how much of that is in memory" in did_you_mean(
        "train.gradient_accumulation_steps", setting_names()
    )
    assert did_you_mean("evaluate.foo", setting_names()) == "; known: evaluate.every_updates, evaluate.tokens"
