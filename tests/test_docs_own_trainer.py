"""docs/bring-your-own-trainer.md against the code, and scripts as people have them, with no line added."""

import re
from pathlib import Path

import pytest

from blueberry import api
from blueberry.records import Goal
from blueberry.study import command as command_module
from blueberry.study.program import Program
from blueberry.study.program_results import ProgramResults
from blueberry.study.spec import Study

PAGE = (Path(__file__).parent.parent / "docs" / "bring-your-own-trainer.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_module, "LOOK_SECONDS", (0.01, 0.02))


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def rows(title: str) -> list[list[str]]:
    lines = [
        line for line in PAGE.partition(f"{title}\n")[2].partition("\n## ")[0].splitlines() if line.startswith("| ")
    ]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def conducted(study: Path, store: Path) -> api.Judged:
    return api.conduct(Study.load(study), store=store, workers=0)


def test_the_script_of_the_page_is_studied_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(fenced("python")[0])
    (tmp_path / "rates.toml").write_text(fenced("toml")[0].replace('"{python}",', '"{python}", "-S",'))
    assert "blueberry" not in fenced("python")[0]
    judged = conducted(tmp_path / "rates.toml", tmp_path / "store")
    insights = judged.judgement.to_dict()
    assert insights["best"]["arm"] == "lr=0.3"
    assert insights["best"]["confirmed"]
    assert [arm["status"] for arm in insights["arms"]] == ["worse", "best", "worse"]
    assert len(judged.runs[0].result.evaluations) == 4


@pytest.mark.parametrize("cells", rows("## A script that only prints its losses"))
def test_what_public_scripts_print_is_found_by_the_pattern_beside_it(tmp_path: Path, cells: list[str]) -> None:
    printed, pattern = re.match(r"`(.*)` \(", cells[0]), cells[1].strip("`")
    assert printed is not None
    (tmp_path / "output.log").write_text(f"\x1b[32mready\x1b[0m\n{printed[1]}\nbye\n")
    metric = "val_bits_per_byte" if "bits" in pattern else "val_loss"
    found = ProgramResults(tmp_path / "output.log", metric, (pattern,))
    found.read(to_end=True)
    value = re.search(r"(?:val loss |val_loss: ?|'eval_loss': '?|Average loss: |val_bpb: +)([\d.]+)", printed[1])
    assert value is not None
    assert found.read(to_end=True) is False
    assert found._last()[metric] == float(value[1])  # pyright: ignore[reportPrivateUsage]


def test_every_key_is_told_and_no_other() -> None:
    told = {cells[0].strip("`") for cells in rows("## The section `[trainer]`") if cells[0].startswith("`")}
    assert set(Program.model_fields) <= told
    keys = [line.split("|")[1].strip().strip("`") for line in PAGE.splitlines() if re.match(r"\| `\w+` \|", line)]
    assert set(keys) == set(Program.model_fields)


CHARACTER_GPT = '''
"""Trains a character-level model; settings are overridden as --key=value, as a configurator of globals does it."""
import math, os, random, sys
out_dir = "out"; learning_rate = 1e-3; min_lr = 1e-4; max_iters = 40; eval_interval = 20; seed = 1337
for arg in sys.argv[1:]:
    key, value = arg.removeprefix("--").split("=")
    assert key in globals(), key
    globals()[key] = type(globals()[key])(value)
from model import optimum
os.makedirs(out_dir, exist_ok=True)
noise = random.Random(seed).gauss(0, 0.002)
for it in range(max_iters + 1):
    gap = (math.log10(learning_rate) - optimum) ** 2 + abs(math.log10(learning_rate / min_lr) - 1)
    loss = 1.5 + 2 / (1 + it) + 0.3 * gap + noise
    if it % eval_interval == 0:
        print(f"step {it}: train loss {loss - 0.1:.4f}, val loss {loss:.4f}")
        print(f"saving checkpoint to {out_dir}")
        open(os.path.join(out_dir, "ckpt.pt"), "w").close()
    print(f"iter {it}: loss {loss:.4f}, time 12.31ms, mfu 3.12%")
'''
DIGITS = """
import argparse, random
parser = argparse.ArgumentParser(description="digits")
parser.add_argument("--gamma", type=float, default=0.7)
parser.add_argument("--seed", type=int, default=1)
args = parser.parse_args()
draw = random.Random(args.seed)
for epoch in range(1, 4):
    for batch in range(0, 60000, 20000):
        print(f"Train Epoch: {epoch} [{batch}/60000 ({batch / 600:.0f}%)]\\tLoss: {1 / epoch:.6f}")
    correct = 9000 + 200 * epoch - int(1000 * (args.gamma - 0.7) ** 2) + draw.randrange(5)
    print(f"\\nTest set: Average loss: {1 - correct / 10000:.4f}, Accuracy: {correct}/10000 ({correct / 100:.0f}%)\\n")
"""
TRAINER = """
import json, os, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
rate, seed, folder = float(arguments["--learning_rate"]), int(arguments["--seed"]), arguments["--output_dir"]
history = []
for step in range(10, 41, 10):
    history.append({"epoch": step / 20, "grad_norm": 1.1, "learning_rate": rate * (1 - step / 40), "loss": 4.5 - step / 50, "step": step})
    print({"loss": f"{4.5 - step / 50:.4}", "grad_norm": "1.1", "learning_rate": str(rate), "epoch": str(step / 20)})
    if step % 20 == 0:
        loss = 3 + (rate - 2e-4) ** 2 * 1e7 + 10 / step + seed / 1e4
        history.append({"epoch": step / 20, "eval_loss": loss, "eval_runtime": 1.2, "step": step})
        print({"eval_loss": f"{loss:.4}", "eval_runtime": "1.2", "epoch": str(step / 20)})
        checkpoint = os.path.join(folder, f"checkpoint-{step}")
        os.makedirs(checkpoint)
        state = {"global_step": step, "epoch": step / 20, "log_history": history, "trial_params": None, "train_batch_size": 8}
        json.dump(state, open(os.path.join(checkpoint, "trainer_state.json"), "w"))
"""


def test_a_character_level_gpt_in_a_repository_of_its_own(tmp_path: Path) -> None:
    repository = tmp_path / "gpt"
    repository.mkdir()
    (repository / "train.py").write_text(CHARACTER_GPT)
    (repository / "model.py").write_text("optimum = -3.0\n")
    (tmp_path / "rates.toml").write_text(
        """
question = "Which rate is best, its floor a tenth of it?"
[set]
"script.max_iters" = 40
[vary]
"script.learning_rate" = [1e-4, 1e-3, 1e-2]
[seeds]
search = 3
confirm = 0
[trainer]
cwd = "gpt"
command = ["{python}", "-S", "train.py", "--learning_rate={script.learning_rate}", "--min_lr={script.learning_rate / 10}",
           "--max_iters={script.max_iters}", "--seed={seed}", "--out_dir={out}"]
stdout = ["step {update}: train loss {train_loss}, val loss {val_loss}", "iter {update}: loss {train_loss}, time {}ms"]
"""
    )
    judged = conducted(tmp_path / "rates.toml", tmp_path / "store")
    insights = judged.judgement.to_dict()
    assert insights["best"]["arm"] == "learning_rate=0.001"
    assert {verdict["verdict"] for verdict in insights["verdicts"]} == {"winner"}
    run = judged.runs[0].result
    assert (run.num_updates, [one.update for one in run.evaluations]) == (40, [0, 20, 40])
    assert sorted(path.name for path in repository.iterdir() if path.name != "__pycache__") == ["model.py", "train.py"]
    (repository / "model.py").write_text("optimum = -2.0\n")
    study = Study.load(tmp_path / "rates.toml")
    assert api.foresee(study, tmp_path / "store").runs_done == 0, "what the script imports is part of it"


def test_a_script_for_digits_whose_accuracy_counts(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(DIGITS)
    (tmp_path / "gamma.toml").write_text(
        """
question = "Which gamma reads most digits?"
metric = "correct"
goal = "maximize"
min_effect = 10
[vary]
"script.gamma" = [0.1, 0.7]
[seeds]
search = 3
confirm = 0
[trainer]
command = ["{python}", "-S", "main.py", "--gamma", "{script.gamma}", "--seed", "{seed}"]
stdout = ["Train Epoch: {epoch} [", "Average loss: {val_loss}, Accuracy: {correct}/"]
"""
    )
    judged = conducted(tmp_path / "gamma.toml", tmp_path / "store")
    goal: Goal = "maximize"
    assert Study.load(tmp_path / "gamma.toml").goal == goal
    insights = judged.judgement.to_dict()
    assert insights["best"]["arm"] == "gamma=0.7"
    assert insights["verdicts"][0]["verdict"] == "winner"
    assert 9600 <= insights["best"]["mean"] <= 9605


@pytest.mark.parametrize("how", ['result = "."', "stdout = \"'eval_loss': '{val_loss}'\""])
def test_a_trainer_of_transformers_that_leaves_only_checkpoints(tmp_path: Path, how: str) -> None:
    (tmp_path / "finetune.py").write_text(TRAINER)
    (tmp_path / "rates.toml").write_text(
        f"""
question = "Which rate is best?"
[vary]
"script.rate" = [1e-4, 2e-4]
[seeds]
search = 3
confirm = 0
[trainer]
command = ["{{python}}", "-S", "finetune.py", "--learning_rate", "{{script.rate}}", "--seed", "{{seed}}", "--output_dir", "{{out}}"]
{how}
"""
    )
    insights = conducted(tmp_path / "rates.toml", tmp_path / "store").judgement.to_dict()
    assert insights["best"]["arm"] == "rate=0.0002"
    assert [arm["mean"] for arm in insights["arms"]] == pytest.approx([3.3501, 3.2501], abs=2e-3)
