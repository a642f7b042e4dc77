"""Each kind of study that `blueberry new` writes, from the file to its judgement."""

from pathlib import Path
from typing import Any

import pytest

from blueberry import api
from blueberry.errors import StudyError
from blueberry.files import read_toml
from blueberry.judge.judgement import Judgement
from blueberry.study.sections import TEMPLATES, write_study_file
from blueberry.study.sharing import forks
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

RECIPES = Path(__file__).parent.parent / "recipes"
DECAY = "optimizer.adamw.weight_decay"
RATE = "optimizer.muon.learning_rate"
SHORT = {"train.updates": 10}


def new(kind: str, folder: Path, **changes: Any) -> Study:
    """As written, but for whole sections that a test replaces."""
    path = write_study_file(kind, RECIPES / "moe-nano.toml", folder / f"{kind}.toml")
    return Study.parse({**read_toml(path, StudyError), **changes}, path)


def conduct(study: Study, folder: Path, **truth: Any) -> tuple[api.Judged, Judgement]:
    judged = api.conduct(study, store=folder / "store", trainer=Synthetic(**truth), workers=0)
    assert not judged.plan.todo
    assert judged.plan.num_undecided == 0
    return judged, judged.judgement


def test_sweep(tmp_path: Path) -> None:
    _, judgement = conduct(new("sweep", tmp_path, set=SHORT), tmp_path)
    assert judgement.best is not None
    assert judgement.best.confirmed
    assert 0.022 < judgement.best.settings[RATE] < 0.042


def test_compare(tmp_path: Path) -> None:
    _, judgement = conduct(new("compare", tmp_path, set=SHORT), tmp_path, effects=((DECAY, -0.5),))
    assert {(v.a, v.b): v.winner for v in judgement.verdicts}["more_decay", "baseline"] == "more_decay"


def test_ablation(tmp_path: Path) -> None:
    study = new("ablation", tmp_path, set=SHORT)
    assert len(study.arms) == 8, "half of the combinations of four changes"
    judged, judgement = conduct(study, tmp_path, effects=((DECAY, -0.5),))
    assert "decay" in [arm.arm for arm in judgement.arms], "what the effects say is best was not among them"
    assert judged.plan.num_undecided == 0
    assert judgement.best is not None
    assert "decay" in judgement.best.arm.split("+")
    (decay,) = (one for one in judgement.effects if one.changes == ("decay",))
    assert decay.is_significant, "the arm that was added takes no effect away"


@pytest.mark.parametrize(
    ("kind", "choice", "winner"),
    [
        ("schedule", ("schedule.kind", "constant", -0.05), "constant"),
        ("search", ("model.feed_forward.kind", "swiglu", -0.05), "dense"),
    ],
)
def test_arms_are_compared_each_at_its_own_best(kind: str, choice: Any, winner: str, tmp_path: Path) -> None:
    study = new(kind, tmp_path, **({} if kind == "schedule" else {"set": SHORT}))
    judged, judgement = conduct(study, tmp_path, optimum=0.06, choices=(choice,))
    assert judgement.best is not None
    assert judgement.best.arm == winner
    assert {run.stage for run in judged.plan.runs} == {"search", "compare", "confirm"}
    compared = {(run.part, run.seed) for run in judged.plan.runs if run.stage == "compare"}
    assert len(compared) == len(study.parts) * 5
    if kind == "schedule":  # its runs train a quarter of what they would alone
        taken_over = sum(fork.update for fork in forks([[run] for run in judged.plan.runs]).values())
        assert taken_over / sum(run.recipe.num_updates for run in judged.plan.runs) > 0.74


@pytest.mark.parametrize(("kind", "setting"), [("horizon", "train.updates"), ("scaling", "model.width")])
def test_conditions(kind: str, setting: str, tmp_path: Path) -> None:
    short = {"across": {setting: [20, 40, 640]}} if kind == "horizon" else {"set": SHORT}
    study = new(kind, tmp_path, **short)
    _, judgement = conduct(study, tmp_path, optimum=0.03, moves=((setting, -0.3),))
    rates = [part.judgement.best.settings[RATE] for part in judgement.parts if part.judgement.best]
    assert rates[0] > rates[-1]
    assert [part.name for part in judgement.parts] == [part.name for part in study.parts]


def test_data(tmp_path: Path) -> None:
    judged, judgement = conduct(new("data", tmp_path, set=SHORT), tmp_path)
    assert len({run.fingerprint for run in judged.plan.runs}) == 4 * 5 + 5
    assert len(judgement.arms) == 4


def smaller(kind: str, folder: Path) -> Study:
    """A kind over a recipe that trains in moments, with few points and seeds."""
    (folder / "tiny.toml").write_text(
        "[model]\nwidth = 16\nnum_heads = 2\nnum_layers = 1\ncontext_tokens = 16\n"
        "[model.feed_forward]\nhidden = 16\nnum_experts = 2\ntop_k = 1\n"
        '[data]\ntokenizer = "byte"\nmax_documents = 40\nmax_characters = 2000\n'
        "[train]\nupdates = 12\nbatch_sequences = 4\n[evaluate]\nevery_updates = 6\ntokens = 512\n"
    )
    given = read_toml(write_study_file(kind, folder / "tiny.toml", folder / f"{kind}.toml"), StudyError)
    given |= {"base": "tiny.toml", "seeds": {"search": 3, "confirm": 2, "max": 3}}
    if "set" in given:
        given["set"] = {"schedule.warmup_updates": 3} if kind == "horizon" else {"train.updates": 12}
        if kind == "schedule":  # decays of whole updates
            given["set"] |= {"schedule.kind": "warmup-stable-decay", "schedule.warmup_updates": 3}
            given["arms"] = {name: given["arms"][name] for name in ("cosine", "constant")}
    for section in ("vary", "tune"):
        if RATE in given.get(section, {}):
            given[section] = {RATE: {"log": [0.01, 0.16]}}
    changed = {"horizon": {"train.updates": [12, 24]}, "scaling": {"model.width": [8, 16, 24]}}
    if kind in changed:
        given["across"] = changed[kind]
    if kind == "data":
        given["vary"] = {"data.max_train_tokens": [192, 384, 768]}
    return Study.parse(given, folder / f"{kind}.toml")


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEMPLATES)
def test_every_kind_on_the_real_trainer(kind: str, tmp_path: Path) -> None:
    study = smaller(kind, tmp_path)
    judged = api.conduct(study, store=tmp_path / "store", workers=0)
    assert not judged.failures
    assert not judged.plan.todo
    assert judged.report(tmp_path / "report").is_file()
    again = api.conduct(study, store=tmp_path / "store", workers=0)
    assert again.num_trained == 0


def test_a_trial_of_every_kind_plans_at_once(tmp_path: Path, prepared: Path) -> None:
    for kind in TEMPLATES:
        seen = api.foresee(
            Study.load(write_study_file(kind, RECIPES / "moe-nano.toml", tmp_path / f"{kind}.toml")),
            prepared,
        )
        assert seen.runs_done == 0
        assert seen.runs_todo > 0
