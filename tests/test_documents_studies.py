"""The studies of the five documents: each plans in all of its forms, and only the documents' own way is objected to."""

from pathlib import Path

import pytest
import torch

from blueberry import api
from blueberry.judge.audits.design import objections
from blueberry.lm.training import Group
from blueberry.study.spec import Study
from blueberry.text.dataset import load
from tests.lm.conftest import CPU

FOLDER = Path(__file__).parent.parent / "studies" / "documents"
FULL = sorted(path.stem for path in FOLDER.glob("[0-9]*.toml") if not path.stem.endswith(("-small", "-as-written")))
SMALL = sorted(path.stem for path in FOLDER.glob("[0-9]*-small.toml"))
AS_WRITTEN = sorted(path.stem for path in FOLDER.glob("*-as-written.toml"))
ASKED_FOR = {"004-accumulation": {"budget"}}
"""Audits that block a study because of its very question."""
WRITTEN_BY_THE_DOCUMENTS = {
    "000-before-after", "001-schedule", "002-rates", "002-horizon", "003-search", "004-ablation", "004-schedule",
}  # fmt: skip


def study(name: str) -> Study:
    return Study.load(FOLDER / f"{name}.toml")


def blocks(name: str) -> set[str]:
    return {found.audit for found in objections(study(name)) if found.severity == "block"}


def test_every_question_has_its_forms() -> None:
    assert [f"{name}-small" for name in FULL] == SMALL
    assert {name.removesuffix("-as-written") for name in AS_WRITTEN} == WRITTEN_BY_THE_DOCUMENTS
    assert {path.stem for path in FOLDER.glob("*.toml")} == {*FULL, *SMALL, *AS_WRITTEN}


@pytest.mark.parametrize("name", FULL + SMALL)
def test_an_honest_form_is_not_objected_to(name: str) -> None:
    assert blocks(name) == ASKED_FOR.get(name.removesuffix("-small"), set())


@pytest.mark.parametrize("name", AS_WRITTEN)
def test_the_documents_own_way_is_objected_to_before_it_runs(name: str) -> None:
    found = blocks(name)
    assert "seeds" in found
    assert ("schedule" in found) == (study(name).base.schedule.kind != "constant")
    assert study(name).base.data.windows == "overlapping"


@pytest.mark.parametrize("name", FULL + AS_WRITTEN)
def test_full_size_is_the_documents_models(name: str) -> None:
    model = study(name).base.model
    assert (model.width, model.num_layers) == ((512, 6) if model.attention.kind == "latent" else (384, 6))


@pytest.mark.parametrize("name", SMALL)
def test_a_small_form_plans(name: str, prepared: Path) -> None:
    asked, seen = study(name), api.foresee(study(name), prepared)
    assert asked.base.model.width == 64
    assert asked.question == study(name.removesuffix("-small")).question
    assert seen.runs_todo > 0


def test_small_forms_share_what_they_have_in_common(prepared: Path) -> None:
    """Arms of one recipe and seed are one run, whichever study asks for them."""
    contents = {
        name: {arm.recipe.model_dump_json() for arm in study(f"{name}-small").arms}
        for name in (
            "000-before-after",
            "001-schedule",
            "004-ablation",
            "004-accumulation",
            "004-schedule",
            "004-stack",
        )
    }
    stack = contents["004-stack"]
    assert contents["000-before-after"] < stack
    assert len(contents["004-ablation"] & stack) == 4
    assert contents["001-schedule"] & stack
    assert contents["004-accumulation"] & contents["004-ablation"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL + AS_WRITTEN)
def test_a_full_size_form_takes_a_real_update(name: str, prepared: Path) -> None:
    """Its last arm at its real shapes on its real text; one sequence at once, as a CPU allows."""
    asked = study(name)
    recipe = [arm.recipe for arm in asked.trained_arms or (asked.parts or (asked,))[-1].arms or ()][-1:]
    (recipe,) = recipe or [asked.base]
    recipe = recipe.with_({"train.batch_sequences": 1, "train.micro_batch_sequences": 1, "evaluate.tokens": 512})
    group = Group([recipe], load(recipe.data, prepared), CPU)
    before = {key: w.clone() for key, w in group.weights.items()}
    for _ in range(2):  # as written, the first update has rate 0
        group.step()
    group.read()
    assert all(w.isfinite().all() for w in group.weights.values())
    assert any(not torch.equal(w, before[key]) for key, w in group.weights.items())
