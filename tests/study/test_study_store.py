import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_trainers import commit_many, result

from blueberry.errors import StoreError
from blueberry.records import MEASURED, Curve, Failure, Metrics, Progress, RunResult
from blueberry.study.database import VERSION
from blueberry.study.store import LEASE_SECONDS, BasedOn, DamagedResults, Owner, Results, Store, this_host


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
    results = [result(seed) for seed in range(3)]
    names = [*(one.fingerprint for one in results), *(f"{number:016x}" for number in range(1200))]
    with Store.open(tmp_path / "new" / "store") as store:
        for one in results:
            assert store.commit(one)
        assert (store.checkpoints.is_dir(), store.data.is_dir()) == (True, True)
    with Store.open(tmp_path / "new" / "store", create=False) as store:
        found = store.results(reversed(names))  # more than fit into one query
        assert found == {one.fingerprint: one for one in results}
        assert {name: one.status for name, one in store.ended(found).items()} == dict.fromkeys(found, "completed")


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
        assert (claim.alive, claim.update) == (True, None), "who lost a claim cannot touch it"


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
        store.register(Path("/s/b.toml"), "b", "Why?", {"x": "arm, seed 0"})
        clock.now += 1
        store.register(Path("/s/a.toml"), "a", "Which?", {"x": "one, seed 0", "y": ""}, build="abc")
        clock.now += 1
        store.register(Path("/s/b.toml"), "b", "Why?", {"x": "arm, seed 0", "z": "arm, seed 1"})
        assert [(one.name, dict(one.runs), one.build) for one in store.studies()] == [
            ("a", {"x": "one, seed 0", "y": ""}, "abc"),
            ("b", {"x": "arm, seed 0", "z": "arm, seed 1"}, None),
        ]


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
        "import sys, study_trainers as t\n"
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


@pytest.mark.parametrize("column", ["status", "metrics", "facts", "body", "digest", "body_digest"])
def test_a_result_whose_bytes_have_changed_is_refused_until_it_is_trained_again(tmp_path: Path, column: str) -> None:
    one, other = result(), result(1)
    with Store.open(tmp_path) as store:
        store.commit(one)
        store.commit(other)
        store.register(Path("s.toml"), "s", "Which?", {one.fingerprint: "wide, seed 0"})
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as sql, sql:
        changed = f"substr({column}, 1, 3) || char(unicode(substr({column}, 4)) + 1) || substr({column}, 5)"
        sql.execute(f"UPDATE results SET {column} = {changed} WHERE fingerprint = ?", (one.fingerprint,))
    with Store.open(tmp_path) as store:
        with pytest.raises(DamagedResults) as caught:
            store.results([one.fingerprint, other.fingerprint])
        one_line(caught, one.fingerprint, "wide, seed 0", "damaged", "blueberry run trains it again")
        assert caught.value.fingerprints == (one.fingerprint,)
        if column != "body":
            with pytest.raises(DamagedResults):
                store.ended([one.fingerprint])
        assert len(store.past_runs()) == 1
        assert store.commit(one), "a sound one takes its place"
        assert store.results([one.fingerprint]) == {one.fingerprint: one}
        store.discard([one.fingerprint])
        assert store.results([one.fingerprint, other.fingerprint]) == {other.fingerprint: other}


def test_a_flipped_bit_anywhere_changes_no_record_in_silence(tmp_path: Path) -> None:
    results = {one.fingerprint: one for one in map(result, range(4))}
    clock = Clock()
    with Store.open(tmp_path, clock=clock) as store:
        for one in results.values():
            store.commit(one)
        store.register(tmp_path / "s.toml", "s", "Which?", dict.fromkeys(results, "an arm"))
        store.append_to_ledger("nano", '{"recipe": {"seed": 3}}', after=None)
        store.remember_base(tmp_path / "s.toml", BasedOn(1, 0, 8))
        store.claim(["a"], owner("one"))
        truth = (store.ended(results), store.studies(), store.ledger(), store.bases())
    file = tmp_path / "store.sqlite"
    whole, random, num_refused = file.read_bytes(), Random(0), 0
    for _ in range(300):
        rotten = bytearray(whole)
        rotten[random.randrange(len(whole))] ^= 1 << random.randrange(8)
        for left in tmp_path.glob("store.sqlite-*"):
            left.unlink()
        file.write_bytes(rotten)
        try:
            with Store.open(tmp_path, create=False, clock=clock) as store:
                found = store.results(results)
                assert found.items() <= results.items()
                ended, studies, ledger, bases = store.ended(results), store.studies(), store.ledger(), store.bases()
                assert ended.items() <= truth[0].items()
                assert all(one in truth[1] for one in studies)
                assert all(one in truth[2] for one in ledger)
                assert bases.items() <= truth[3].items()
                store.claims()
                store.past_runs()
                store.failures(results)
        except StoreError as refused:
            num_refused += 1
            assert "\n" not in str(refused)
            assert str(refused).count("; ") >= 1
            assert len(str(refused)) < 1000
    assert num_refused > 50


def test_junk_in_any_table_is_one_line_or_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.commit(result())
        store.record_failure(failed("b" * 16))
        store.claim(["a"], owner("one"))
        store.register(Path("s.toml"), "s", "Which?", {"a": "x"})
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as sql, sql:
        sql.execute("UPDATE claims SET pid = 'x', expires = x'ff00', progress_update = x'00ff', owner = 7")
        sql.execute("UPDATE studies SET runs = '[1,', name = x'ff'")
        sql.execute("UPDATE failures SET body = x'00ff'")
    with Store.open(tmp_path) as store:
        assert [claim.alive for claim in store.claims()] == [False]
        assert store.claim(["a"], owner("two")) == ("a",)
        assert store.failures(["b" * 16]) == {}
        with pytest.raises(StoreError) as caught:
            store.studies()
        one_line(caught, "table studies is damaged")


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "without tables"])
def test_a_file_without_content_is_not_taken_for_a_new_store(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "store.sqlite"
    if content is None:
        with closing(sqlite3.connect(file)) as sql:
            sql.execute("PRAGMA application_id = 0x424C5545")
    else:
        file.write_bytes(content)
    before = file.read_bytes()
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path)
    one_line(caught, "content was lost", "restore")
    assert file.read_bytes() == before


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


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_store_is_upgraded_with_all_it_holds(tmp_path: Path, version: int) -> None:
    one, other = result(), result(1)
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as sql, sql:
        sql.executescript((Path(__file__).parent.parent / "data" / "store-version-2.sql").read_text())
        sql.execute(f"PRAGMA user_version = {version}")
        for run in (one, other):
            body = run.model_dump_json() if run is one else "junk"
            row = (run.fingerprint, run.status, 3.0, 3, 0, 0.0, 1.0, 5.0, body)
            sql.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        crashed = failed("c" * 16)
        sql.execute("INSERT INTO failures VALUES (?, ?, ?)", (crashed.fingerprint, 1.0, crashed.model_dump_json()))
        sql.execute("INSERT INTO studies VALUES ('/s.toml', 's', 'Which?', ?, 7.0)", (json.dumps([one.fingerprint]),))
        if version == 1:
            sql.executescript("DROP TABLE ledger; DROP TABLE bases;")
        else:
            sql.execute("INSERT INTO ledger (line, appended_at, body) VALUES ('nano', 1.0, '{\"recipe\": null}')")
            sql.execute("INSERT INTO bases VALUES ('/s.toml', 1, 0, 8)")
    with Store.open(tmp_path) as first, Store.open(tmp_path) as second:
        assert first.results([one.fingerprint]) == {one.fingerprint: one}
        (ended,) = second.ended([one.fingerprint]).values()
        assert (ended.metric("val_loss"), ended.committed_at) == (one.metric("val_loss"), 5.0)
        with pytest.raises(DamagedResults):
            first.ended([other.fingerprint])
        assert first.failures([crashed.fingerprint]) == {crashed.fingerprint: crashed}
        (study,) = second.studies()
        assert (dict(study.runs), study.name) == ({one.fingerprint: ""}, "s")
        assert len(first.ledger()) == len(first.bases()) == version - 1
        assert first.append_to_ledger("other", '{"recipe": null}', after=None) == version
        assert [row.recipe for row in second.ledger()] == [None] * version
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as sql:
        assert sql.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_the_ledger_is_appended_to_and_a_base_is_remembered_once(tmp_path: Path) -> None:
    with Store.open(tmp_path) as first, Store.open(tmp_path) as second:
        assert first.append_to_ledger("nano", '{"recipe": null}', after=None) == 1
        assert second.append_to_ledger("nano", '{"recipe": null}', after=None) is None
        assert [(row.number, row.line, row.recipe) for row in second.ledger()] == [(1, "nano", None)]
        first.remember_base(Path("a.toml"), BasedOn(1, 0, 8))
        first.remember_base(Path("a.toml"), BasedOn(2, 0, 8))
        assert second.bases() == {str(Path("a.toml").absolute()): BasedOn(1, 0, 8)}, "the first one stays"


NAMES = ("a", "wiki.de", 'it"s', "ä", "loss")
METRICS = (
    *(f"{which}_{what}" for which in ("val", "test") for what in MEASURED),
    *(f"sets.{name}.{what}" for name in NAMES for what in MEASURED),
    *NAMES, "train_loss", "train_seconds", "val_nothing", "sets.a.nothing",
)  # fmt: skip
numbers = st.floats(allow_nan=False, allow_infinity=False)
measured = st.builds(
    Metrics,
    loss=numbers,
    bits_per_byte=st.none() | numbers,
    accuracy=st.none() | numbers,
    num_tokens=st.none() | st.integers(0, 2**70),
)
any_results = st.builds(
    RunResult,
    fingerprint=st.just(""),
    recipe=st.just({"seed": 0}),
    status=st.just("completed"),
    final=st.none() | measured,
    test=st.none() | measured,
    sets=st.dictionaries(st.sampled_from(NAMES), measured, max_size=2),
    extra=st.dictionaries(st.sampled_from(METRICS), st.none() | numbers, max_size=4),
    curve=st.builds(Curve, train_loss=st.lists(st.none() | numbers, max_size=3).map(tuple)),
    num_tokens=st.none() | st.integers(0, 2**70),
)
numbered = count()


@pytest.fixture(scope="module")
def module_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("store")) as store:
        yield store


@settings(max_examples=40, deadline=None)
@given(one=any_results)
def test_what_a_plan_reads_of_a_run_is_what_the_whole_result_says(module_store: Store, one: RunResult) -> None:
    one = one.model_copy(update={"fingerprint": f"{next(numbered):016x}"})
    module_store.commit(one)
    (ended,) = module_store.ended([one.fingerprint]).values()
    assert {name: ended.metric(name) for name in METRICS} == {name: one.metric(name) for name in METRICS}
    assert module_store.results([one.fingerprint]) == {one.fingerprint: one}


def test_what_nobody_counted_stays_unknown(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        bare = RunResult(fingerprint="a" * 16, recipe={}, status="completed", extra={"mine": 1.0})
        store.commit(bare)
        (ended,) = store.ended(["a" * 16]).values()
        assert (ended.num_flops, ended.code_digest, ended.wall_seconds) == (None, None, None)
        assert store.results(["a" * 16]) == {"a" * 16: bare}
        trained = bare.model_copy(update={"num_updates": 10, "num_flops": 100.0, "train_seconds": 10.0})
        store.commit(trained.model_copy(update={"fingerprint": "b" * 16}), 40.0)
        (past,) = [one for one in store.past_runs() if one.num_flops is not None]
        assert (past.wall_seconds, past.num_flops, past.own_fraction) == (40.0, 100.0, 1.0)


def test_results_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    one, two, three = map(result, range(3))
    with Store.open(tmp_path) as store:
        for run in (one, two, three):
            store.commit(run)
        crashed = failed("c" * 16)
        found = Results(store, [one.fingerprint, two.fingerprint], {crashed.fingerprint: crashed})
        assert found == {run.fingerprint: run for run in (one, two, crashed)}
        assert found.get(three.fingerprint) is None, "only those that were asked for"
