"""What studies of schedules train, where runs that agree for a while train that part once: planned, not trained."""

import tempfile
from pathlib import Path
from typing import Any

from blueberry.architecture import cost
from blueberry.errors import StudyError
from blueberry.files import read_toml
from blueberry.judge.studies import REFEREE
from blueberry.study.arms import Run
from blueberry.study.plan import plan
from blueberry.study.sections import study_file
from blueberry.study.sharing import forks
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

RATE = "optimizer.muon.learning_rate"
KINDS = {kind: {"schedule.kind": kind} for kind in ("linear", "warmup-stable-decay", "polynomial", "step", "constant")}
WARM = {"train.updates": 200, "schedule.warmup_updates": 20}
GRID: dict[str, Any] = {"tune": {}, "strategy": {"method": "grid"}}
STUDIES: dict[str, tuple[str, dict[str, Any]]] = {
    "`blueberry new schedule`: eight decays, each at its own best rate": ("schedule", {}),
    "the same at one rate, three seeds": ("schedule", {**GRID, "seeds": {"search": 3}}),
    "the same at five rates, three seeds": (
        "schedule", {**GRID, "tune": {RATE: {"log": [0.015, 0.24], "points": 5}}, "seeds": {"search": 3}},
    ),
    "six kinds of schedule at one rate, three seeds, one warmup": (
        "schedule", {**GRID, "set": WARM, "arms": KINDS, "seeds": {"search": 3}},
    ),
    "`blueberry new horizon`: four lengths, each at its own best rate": ("horizon", {}),
}  # fmt: skip


def measure() -> list[dict[str, Any]]:
    """Tokens of each study, alone and shared, on synthetic runs whose best rate is the same for every schedule."""
    rows = []
    for name, (kind, changes) in STUDIES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "study.toml"
            path.write_text(study_file(kind, "moe-nano"))
            given = {**read_toml(path, StudyError), **changes}
            runs = _trained(Study.parse({key: value for key, value in given.items() if value != {}}, path))
        begins = forks([[run] for run in runs])
        alone = sum(cost(run.recipe).num_tokens for run in runs)
        shared = sum(
            begins[run.fingerprint].update * run.recipe.update_tokens for run in runs if run.fingerprint in begins
        )
        rows.append({"study": name, "runs": len(runs), "alone": alone, "trained": alone - shared})
    return rows


def _trained(study: Study) -> tuple[Run, ...]:
    truth, results = Synthetic(optimum=0.06, noise_nats=0.01), {}
    while True:
        planned = plan(study, truth.data_digest, results, REFEREE)
        if not planned.todo:
            return planned.runs
        results |= {run.fingerprint: truth.result(run.recipe) for run in planned.todo}
