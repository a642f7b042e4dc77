import pytest

from blueberry.cli.words import watching_a_run, watching_a_study
from blueberry.records import Progress
from blueberry.study.engine import Snapshot


def _progress(update: int, note: str | None = None) -> Progress:
    return Progress(fingerprints=("a",), update=update, num_updates=9, note=note)


def _snapshot(*notes: str) -> Snapshot:
    return Snapshot(done=0, total=1, running=(), failed=0, updates_done=0, updates_total=9, notes=notes)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_note_is_printed_once_and_in_full(capsys, monkeypatch, terminal):
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "200")
    with watching_a_run(quiet=False, no_color=True) as on_progress:
        for update, note in enumerate(("out of memory [4]", None, "out of memory [4]", "and again")):
            on_progress(_progress(update, note))
    with watching_a_study("lr", quiet=False, no_color=True) as on_event:
        on_event(_snapshot("of a study"))
        on_event(_snapshot("of a study", "another"))
    said = capsys.readouterr()
    assert said.out == ""
    for note in ("out of memory [4]", "and again", "of a study", "another"):
        assert said.err.count(note) == 1, said.err


def test_quiet_is_quiet(capsys):
    with watching_a_run(quiet=True, no_color=True) as on_progress:
        assert on_progress is None
    assert capsys.readouterr().err == ""
