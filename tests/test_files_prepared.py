"""Prepared folders are whole or absent."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from blueberry import files
from blueberry.errors import DataError

FILES = {"a.tokens": bytes(range(200)), "b.json": b"{}"}
NAME = "0123456789abcdef"


class Builder:
    def __init__(self):
        self.calls = 0

    def __call__(self, folder):
        self.calls += 1
        for name, body in FILES.items():
            (folder / name).write_bytes(body)


def content(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def test_an_entry_is_built_once(tmp_path):
    build = Builder()
    folders = [files.prepared(tmp_path / "deep" / "cache", NAME, build) for _ in range(3)]
    assert build.calls == 1
    assert content(folders[2]) == FILES
    assert os.listdir(tmp_path / "deep" / "cache") == [NAME]


def flip(path):
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def forge(path):
    manifest = json.loads(path.read_bytes())
    del manifest["files"]["a.tokens"]
    path.write_text(json.dumps(manifest))


DAMAGES = {
    "flipped bit": lambda folder: flip(folder / "a.tokens"),
    "truncated file": lambda folder: truncate(folder / "a.tokens"),
    "empty file": lambda folder: (folder / "b.json").write_bytes(b""),
    "missing file": lambda folder: (folder / "b.json").unlink(),
    "truncated manifest": lambda folder: truncate(folder / files.MANIFEST),
    "flipped manifest": lambda folder: flip(folder / files.MANIFEST),
    "missing manifest": lambda folder: (folder / files.MANIFEST).unlink(),
    "manifest without a file": lambda folder: forge(folder / files.MANIFEST),
    "manifest of another kind": lambda folder: (folder / files.MANIFEST).write_bytes(b"[1]"),
    "nothing left": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_noticed_and_rebuilt(tmp_path, damage):
    folder = files.prepared(tmp_path, NAME, Builder())
    damage(folder)
    build = Builder()
    assert content(files.prepared(tmp_path, NAME, build)) == FILES
    assert build.calls == 1
    assert files.is_whole_folder(folder)
    assert os.listdir(tmp_path) == [NAME]


def test_an_entry_under_another_name_is_not_whole(tmp_path):
    folder = files.prepared(tmp_path, NAME, Builder())
    assert not files.is_whole_folder(folder.rename(tmp_path / "fedcba9876543210"))


def test_what_another_process_finished_first_is_kept(tmp_path):
    def build(folder):
        files.prepared(tmp_path, NAME, Builder())  # while we were building
        (tmp_path / NAME).touch()
        os.utime(tmp_path / NAME / "a.tokens", (1, 1))
        Builder()(folder)

    folder = files.prepared(tmp_path, NAME, build)
    assert (folder / "a.tokens").stat().st_mtime == 1
    assert os.listdir(tmp_path) == [NAME]


def test_a_failing_build_leaves_nothing_and_says_its_own_error(tmp_path):
    def build(folder):
        raise DataError("the corpus: is gone")

    with pytest.raises(DataError, match=r"^the corpus: is gone$"):
        files.prepared(tmp_path, NAME, build)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DataError, match=r"^\S+: prepared text cannot be written there \(No space left[^\n]*--store$"):
        files.prepared(tmp_path, NAME, Builder())
    assert os.listdir(tmp_path) == []


def test_an_unwritable_folder_is_noticed_before_anything_is_built(tmp_path):
    (tmp_path / "file").write_text("in the way")
    build = Builder()
    with pytest.raises(DataError, match=r"file/cache: prepared text cannot be written there"):
        files.prepared(tmp_path / "file" / "cache", NAME, build)
    assert build.calls == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="prepared text cannot be written there"):
        files.prepared(tmp_path, NAME, Builder())


def test_a_whole_entry_in_a_read_only_folder_is_used(tmp_path, monkeypatch):
    files.prepared(tmp_path, NAME, Builder())
    monkeypatch.setattr(files.Path, "mkdir", lambda *_, **__: pytest.fail("wrote"))
    assert content(files.prepared(tmp_path, NAME, Builder())) == FILES


def test_what_was_abandoned_is_removed_and_nothing_else(tmp_path):
    old, recent = tmp_path / f".partial-{'0' * 32}", tmp_path / f".partial-{'1' * 32}"
    foreign = tmp_path / ".git.old"
    for folder in (old, recent, foreign):
        folder.mkdir()
    for folder in (old, foreign):
        os.utime(folder, (1, 1))
    files.prepared(tmp_path, NAME, Builder())
    assert sorted(os.listdir(tmp_path)) == sorted([recent.name, foreign.name, NAME])


SCRIPT = """
import os, sys, time
from pathlib import Path
from blueberry import files
root, mode = Path(sys.argv[1]), sys.argv[2]
def build(folder):
    (root.parent / f"building-{os.getpid()}").touch()
    while mode == "together" and len(list(root.parent.glob("building-*"))) < 3:
        time.sleep(0.01)
    (folder / "a.tokens").write_bytes(bytes(range(200)))
    (folder / "b.json").write_bytes(b"{}")
if mode == "killed":
    def forever(descriptor):
        print("half written", flush=True)
        time.sleep(600)
    os.fsync = forever
folder = files.prepared(root, "0123456789abcdef", build)
assert files.is_whole_folder(folder) and (folder / "b.json").read_bytes() == b"{}"
"""


def start(root, mode):
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(root), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_three_processes_may_replace_what_is_damaged_at_once(tmp_path):
    """Those that end second and third find a whole entry, as where there was none."""
    root = tmp_path / "cache"
    DAMAGES["truncated file"](files.prepared(root, NAME, Builder()))
    for process in [start(root, "together") for _ in range(3)]:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert len(list(tmp_path.glob("building-*"))) == 3, "they did not meet"
    assert content(root / NAME) == FILES
    assert os.listdir(root) == [NAME]


def test_a_kill_in_the_middle_leaves_no_entry(tmp_path):
    root = tmp_path / "cache"
    process = start(root, "killed")
    assert process.stdout is not None
    assert process.stdout.readline() == "half written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    [left] = os.listdir(root)
    assert left.startswith(".")
    assert not (root / NAME).exists()
    assert content(files.prepared(root, NAME, Builder())) == FILES
    os.utime(root / left, (time.time() - 2 * 24 * 3600,) * 2)
    files.prepared(root, "f" * 16, Builder())
    assert sorted(os.listdir(root)) == sorted([NAME, "f" * 16])
