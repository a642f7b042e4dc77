"""A small training script with bad habits, and a study of it, for the tests of command trainers."""

from pathlib import Path

from blueberry.study.spec import Study

TRAIN = """
import json, os, signal, subprocess, sys, time

rate, seed, habit = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
print("at work on", rate, seed)


def say(**line):
    with open("metrics.jsonl", "a") as file:
        file.write(json.dumps(line) + "\\n")


def loss(update):
    return 4 + (rate - 0.03) ** 2 + 1 / update + seed / 1000


first = 1
if habit == "resumes" and os.path.exists("state"):
    first = int(open("state").read()) + 1
for update in range(first, 7):
    value = float("nan") if rate > 1 and update > 3 else loss(update)
    say(update=update, train_loss=value, tokens=update * 10)
    if habit == "resumes":
        open("state", "w").write(str(update))
        if update == 3 and first == 1:
            say(update=4, train_loss=99.0)
            os.kill(os.getpid(), signal.SIGKILL)
    if update % 3 == 0 and rate <= 1:
        say(update=update, val_loss=loss(update), val_accuracy=0.25, speed=2.5)
    if habit == "exits" and update == 4 and rate == 0.02:
        print("a last word", file=sys.stderr)
        sys.exit(3)
    if habit == "hangs" and rate == 0.02:
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        open(os.environ["PIDS"], "a").write(f"{os.getpid()} {child.pid} ")
        time.sleep(600)
if habit == "no file":
    os.remove("metrics.jsonl")
if habit == "bad line":
    open("metrics.jsonl", "a").write("loss: 4\\n")
if habit == "fails with nan" and rate > 1:
    sys.exit(1)
if habit == "torn":
    open("metrics.jsonl", "a").write('{"update": 6, "val_loss": 3.5}')
"""
STUDY = """
question = "Which rate?"
[set]
"script.habit" = "none"
[vary]
"script.rate" = [0.01, 0.02, 0.03, 2.0]
[seeds]
search = 2
confirm = 1
max = 4
[trainer]
command = ["{python}", "-S", "train.py", "{script.rate}", "{seed}", "{script.habit}"]
"""
NUM_RUNS = 4 * 2 + 1


def make_study(folder: Path, habit: str = "none", more: str = "", text: str = STUDY) -> Study:
    """`more` is added to [trainer]."""
    (folder / "train.py").write_text(TRAIN)
    (folder / "rates.toml").write_text(text.replace('"none"', f'"{habit}"') + more)
    return Study.load(folder / "rates.toml")
