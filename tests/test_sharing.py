"""A horizon study as a person runs it: what is shared is said, disturbance changes no number, nothing stays behind."""

import json
import os
import signal
from pathlib import Path

import pytest

from blueberry import api
from blueberry.recipe import SHARED_FOLDER
from blueberry.records import RunResult
from blueberry.study.spec import Study
from tests.test_cli import RECIPE
from tests.test_nothing_lost import numbers, start, wait_until

HORIZON = """
question = "Does more training still help?"
base = "tiny.toml"
[set]
"train.updates" = 120
"evaluate.every_updates" = 15
"model.dropout" = 0.1
"schedule.kind" = "warmup-stable-decay"
"schedule.warmup_updates" = 10
[vary]
"train.updates" = [30, 60, 120]
[seeds]
search = 2
confirm = 0
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "horizon.toml").write_text(HORIZON.replace('"train.updates" = 120\n', "", 1))
    return tmp_path


def results(here: Path, store: str, share: bool = True) -> dict[str, RunResult]:
    """Of the whole study, training what is missing in this process."""
    judged = api.conduct(Study.load(here / "horizon.toml"), store=here / store, workers=0, share=share)
    return {run.result.fingerprint: run.result for run in judged.runs}


def unshared(result: RunResult) -> dict:
    return {name: value for name, value in numbers(result).items() if not name.startswith("shared_")}


@pytest.mark.slow
def test_a_horizon_study_killed_anywhere_ends_with_the_numbers_of_runs_trained_alone(
    here: Path, command, monkeypatch
) -> None:
    monkeypatch.chdir(here)
    planned = json.loads(command("plan", "horizon.toml", "--no-timing", "--json").out)
    assert (planned["shared_runs"], planned["shared_updates"]) == (4, 2 * (24 + 48))
    said = command("plan", "horizon.toml", "--no-timing").out
    assert "shared     4 runs begin where another has been: 144 updates" in said

    shared = here / "forked" / "checkpoints" / SHARED_FOLDER
    words = ["run", "horizon.toml", "--store", "forked", "--out", "report", "--quiet", "--workers", "1"]
    driver = start(here, "-m", "blueberry", *words)
    wait_until(lambda: any(shared.glob("*/*/update-000048.*.safetensors")))
    children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
    worker = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(int(worker[0]), signal.SIGKILL)
    wait_until(lambda: len(list(shared.iterdir())) < 4)  # it was begun again, and somebody began where it had been
    driver.kill()
    driver.wait()
    again = command(*words)
    assert again.code in (0, 1), again.err

    forked, alone = results(here, "forked"), results(here, "alone", share=False)
    assert {r.shared_updates for r in alone.values()} == {0}
    assert sorted((r.num_updates, r.shared_updates) for r in forked.values()) == [
        (30, 24), (30, 24), (60, 48), (60, 48), (120, 0), (120, 0),
    ]  # fmt: skip
    assert {name: unshared(r) for name, r in forked.items()} == {name: unshared(r) for name, r in alone.items()}
    assert list(shared.iterdir()) == []

    cost = json.loads((here / "report" / "insights.json").read_text())["cost"]
    assert cost["tokens"] + cost["shared_tokens"] == sum(r.num_tokens for r in forked.values())
    assert cost["shared_tokens"] == 144 * 2 * 16
    assert cost["seconds"] + cost["shared_seconds"] == pytest.approx(sum(r.train_seconds for r in forked.values()))
    assert "34% of what the runs cost alone" in (here / "report" / "report.md").read_text()
