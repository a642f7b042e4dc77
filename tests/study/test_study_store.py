import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blueberry.errors import StoreError
from blueberry.recipe import Recipe
from blueberry.records import Failure, Progress, RunResult
from blueberry.study.claims import LEASE_SECONDS, Owner, this_host
from blueberry.study.lines import BasedOn
from blueberry.study.schema import VERSION
from blueberry.study.store import Store
from blueberry.study.synthetic import Synthetic


def result(seed: int = 0) -> RunResult:
    return Synthetic().result(Recipe(seed=seed).with_(**{"train.updates": 3}))


def failed(name: str) -> RunResult:
    return RunResult(fingerprint=name, recipe={}, status="failed", failure=Failure(kind="crashed", message="x"))


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


def owner(name: str, host: str = "elsewhere", pid: int = 1) -> Owner:
    return Owner(name, host, pid)


def test_results_come_back_as_they_went_in(tmp_path: Path) -> None:
    results = [result(seed) for seed in range(1203)]
    with Store.open(tmp_path / "new" / "store") as store:
        for one in results[:3]:
            assert store.commit(one)
        assert (store.checkpoints.is_dir(), store.data.is_dir()) == (True, True)
    with Store.open(tmp_path / "new" / "store", create=False) as store:
        found = store.results(one.fingerprint for one in results)  # more names than fit into one query
        assert found == {one.fingerprint: one for one in results[:3]}
        assert store.statuses(found) == dict.fromkeys(found, "completed")


def test_the_first_result_stays(tmp_path: Path) -> None:
    first = result()
    with Store.open(tmp_path) as store:
        assert store.commit(first)
        assert not store.commit(first)
        assert not store.commit(first.model_copy(update={"train_seconds": 99.0}))
        assert store.results([first.fingerprint]) == {first.fingerprint: first}


def test_a_failure_is_remembered_until_there_is_a_result(tmp_path: Path) -> None:
    one = result()
    with Store.open(tmp_path) as store:
        store.record_failure(failed(one.fingerprint))
        assert store.failures([one.fingerprint]) == {one.fingerprint: failed(one.fingerprint)}
        assert store.results([one.fingerprint]) == {}
        store.commit(one)
        assert store.failures([one.fingerprint]) == {}
        with pytest.raises(AssertionError):
            store.commit(failed("abc"))


def test_a_claim_is_all_or_none(tmp_path: Path) -> None:
    done = result()
    with Store.open(tmp_path, clock=Clock()) as store:
        assert store.claim(["a", "b"], owner("one")) == ("a", "b")
        assert store.claim(["b", "c"], owner("two")) is None
        assert store.claim(["c"], owner("two")) == ("c",)
        assert store.claim(["a", "b"], owner("one")) == ("a", "b"), "one's own may be claimed again"
        store.commit(done)
        assert store.claim([done.fingerprint, "d"], owner("one")) == ("d",), "what has ended is not claimed"
        assert store.claim([done.fingerprint], owner("one")) == ()
        store.release(owner("one"), ["a"])
        assert [claim.fingerprint for claim in store.claims()] == ["b", "c", "d"]
        store.release(owner("one"))
        assert [claim.fingerprint for claim in store.claims()] == ["c"]


def test_a_result_ends_the_claim_on_its_run(tmp_path: Path) -> None:
    one = result()
    with Store.open(tmp_path) as store:
        store.claim([one.fingerprint], Owner.here())
        store.commit(one)
        assert store.claims() == ()


def test_a_lease_lapses_unless_it_is_renewed(tmp_path: Path) -> None:
    clock = Clock()
    with Store.open(tmp_path, clock=clock) as store:
        store.claim(["a"], owner("one"))
        clock.now += LEASE_SECONDS - 1
        assert store.claim(["a"], owner("two")) is None
        store.heartbeat(owner("one"), [Progress(fingerprints=("a",), update=4, num_updates=9, tokens_per_second=2.5)])
        clock.now += LEASE_SECONDS - 1
        assert store.claim(["a"], owner("two")) is None
        (claim,) = store.claims()
        assert (claim.update, claim.num_updates, claim.tokens_per_second, claim.alive) == (4, 9, 2.5, True)
        clock.now += 2
        assert not store.claims()[0].alive
        assert store.claim(["a"], owner("two")) == ("a",)
        store.heartbeat(owner("one"), [Progress(fingerprints=("a",), update=5, num_updates=9)])
        store.release(owner("one"))
        (claim,) = store.claims()
        assert (claim.owner.id, claim.update) == ("two", None), "who lost a claim cannot touch it"


def test_a_transaction_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    clock = Clock()

    def progress() -> Iterator[Progress]:
        yield Progress(fingerprints=("a",), update=4, num_updates=9)
        raise ZeroDivisionError

    with Store.open(tmp_path, clock=clock) as store:
        store.claim(["a"], owner("one"))
        before = store.claims()
        clock.now += 1
        with pytest.raises(ZeroDivisionError):
            store.heartbeat(owner("one"), progress())
        assert store.claims() == before
        store.heartbeat(owner("one"))
        assert store.claims() != before


def test_a_clock_set_back_makes_no_claim_immortal(tmp_path: Path) -> None:
    clock = Clock()
    with Store.open(tmp_path, clock=clock) as store:
        store.claim(["a"], owner("one"))
        clock.now -= 1e6
        assert store.claim(["a"], owner("two")) == ("a",)


def test_a_claim_of_a_dead_process_of_this_host_is_free(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with Store.open(tmp_path, clock=Clock()) as store:
        store.claim(["a"], owner("dead", this_host(), gone.pid))
        store.claim(["b"], owner("alive", this_host(), os.getpid()))
        store.claim(["c"], owner("far", "elsewhere", gone.pid))
        assert [claim.alive for claim in store.claims()] == [False, True, True]
        assert store.claim(["a"], owner("two")) == ("a",)
        assert store.claim(["b"], owner("two")) is None
        assert store.claim(["c"], owner("two")) is None


def test_studies_are_registered_by_their_file(tmp_path: Path) -> None:
    clock = Clock()
    with Store.open(tmp_path, clock=clock) as store:
        store.register(Path("/s/b.toml"), "b", "Why?", ["x"])
        clock.now += 1
        store.register(Path("/s/a.toml"), "a", "Which?", ["x", "y"])
        clock.now += 1
        store.register(Path("/s/b.toml"), "b", "Why?", ["x", "z"])
        assert [(one.name, one.fingerprints) for one in store.studies()] == [("a", ("x", "y")), ("b", ("x", "z"))]


def commit_many(folder: str, first: int, last: int) -> None:
    with Store.open(folder) as store:
        for seed in range(first, last):
            store.commit(result(seed))


def test_processes_that_open_and_commit_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ranges = [(0, 40), (20, 60), (20, 60)]
    processes = [context.Process(target=commit_many, args=(str(tmp_path / "store"), *ends)) for ends in ranges]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    with Store.open(tmp_path / "store") as store:
        names = [result(seed).fingerprint for seed in range(60)]
        assert store.results(names) == {name: result(seed) for seed, name in enumerate(names)}


def test_what_was_committed_survives_kill_9(tmp_path: Path) -> None:
    code = (
        "import sys, test_study_store as t\n"
        "store = t.Store.open(sys.argv[1])\n"
        "for seed in range(10**6):\n"
        "    store.commit(t.result(seed))\n"
        "    print(seed, flush=True)\n"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=here) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        last = max([19, *(int(line) for line in process.stdout)])
    with Store.open(tmp_path) as store:
        assert len(store.results(result(seed).fingerprint for seed in range(last + 1))) == last + 1


def one_line(caught: pytest.ExceptionInfo[StoreError], *parts: str) -> None:
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.count("; ") >= 2, "what, the rule, the remedy"
    for part in parts:
        assert part in text


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "store.sqlite") as sql:
        sql.execute(f"PRAGMA user_version = {VERSION + 1}")
    sql.close()
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path)
    one_line(caught, f"version {VERSION + 1}", "update Blueberry")


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.sqlite") as sql:
        sql.execute("CREATE TABLE results (a)")
    sql.close()
    before = (tmp_path / "store.sqlite").read_bytes()
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path)
    one_line(caught, "another program")
    assert (tmp_path / "store.sqlite").read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_text("no database\n" * 1000)
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path)
    one_line(caught, "store.sqlite", "move it away")


def test_damage_is_found_when_reading(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        for seed in range(30):
            store.commit(result(seed))
    file = tmp_path / "store.sqlite"
    pages = file.read_bytes()
    file.write_bytes(pages[:4096] + b"\xff" * (len(pages) - 4096))
    with pytest.raises(StoreError) as caught, Store.open(tmp_path) as store:
        store.results(result(seed).fingerprint for seed in range(30))
    one_line(caught, "damaged")


def test_a_result_that_cannot_be_read_is_damage(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.commit(result())
    with sqlite3.connect(tmp_path / "store.sqlite") as sql:
        sql.execute("UPDATE results SET body = '{\"a\": '")
    sql.close()
    with Store.open(tmp_path) as store, pytest.raises(StoreError) as caught:
        store.results([result().fingerprint])
    one_line(caught, result().fingerprint, "damaged")


def test_places_that_cannot_hold_a_store(tmp_path: Path) -> None:
    # Tests may run as root, whom permissions do not stop: a path below a file stops everybody.
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path / "file" / "store")
    one_line(caught, "Not a directory", "mend --store")
    (tmp_path / "taken" / "store.sqlite").mkdir(parents=True)
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path / "taken")
    one_line(caught, "unable to open")
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path / "absent", create=False)
    one_line(caught, "no store here")
    assert not (tmp_path / "absent").exists()


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.commit(result(0))
        num_pages = store._sql.execute("PRAGMA page_count").fetchone()[0]
        store._sql.execute(f"PRAGMA max_page_count = {num_pages}")  # SQLite's own way to be full
        with pytest.raises(StoreError) as caught:
            list(map(store.commit, map(result, range(1, 100))))
        one_line(caught, "disk is full", "make room")
        assert len(store.results([result(0).fingerprint])) == 1
        store._sql.execute("PRAGMA max_page_count = 1000000")
        assert store.commit(result(99)), "and goes on when there is room"


def test_a_store_of_version_1_is_upgraded_with_all_it_holds(tmp_path: Path) -> None:
    one = result()
    with Store.open(tmp_path) as store:
        store.commit(one)
    sql = sqlite3.connect(tmp_path / "store.sqlite")
    sql.executescript("DROP TABLE ledger; DROP TABLE bases; PRAGMA user_version = 1;")
    sql.close()
    with Store.open(tmp_path) as first, Store.open(tmp_path) as second:
        assert first.results([one.fingerprint]) == {one.fingerprint: one}
        assert first.append_to_ledger("nano", '{"recipe": null}', after=None) == 1
        assert [(row.number, row.line, row.recipe) for row in second.ledger()] == [(1, "nano", None)]
        first.remember_base(Path("a.toml"), BasedOn(1, 0, 8))
        first.remember_base(Path("a.toml"), BasedOn(2, 0, 8))
        assert second.bases() == {str(Path("a.toml").absolute()): BasedOn(1, 0, 8)}, "the first one stays"
    sql = sqlite3.connect(tmp_path / "store.sqlite")
    assert sql.execute("PRAGMA user_version").fetchone() == (VERSION,)
    sql.close()
