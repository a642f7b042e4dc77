"""The sections that make the kinds of studies: [combine], conditions, [tune], [across], texts of their own."""

import copy
from pathlib import Path
from typing import Any

import pytest

from blueberry.errors import RecipeError, StudyError
from blueberry.study.spec import Study

LR = "optimizer.muon.learning_rate"
DECAY = "optimizer.adamw.weight_decay"
KIND = "model.feed_forward.kind"
TOP_K = "model.feed_forward.top_k"
EXPERTS = "model.feed_forward.num_experts"
ARMS: dict[str, Any] = {
    "question": "Which?",
    "base": "recipe.toml",
    "arms": {"drop": {"model.dropout": 0.05}, "decay": {DECAY: 0.3}, "clip": {"train.clip_norm": 0.5}},
}
TUNE: dict[str, Any] = {**ARMS, "tune": {LR: [0.02, 0.04]}}
VARY: dict[str, Any] = {"question": "Which?", "base": "recipe.toml", "vary": {LR: [0.02, 0.04]}}
ACROSS: dict[str, Any] = {**VARY, "across": {"train.updates": [10, 20]}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "recipe.toml").write_text("[model]\nnum_layers = 1\n")
    (folder / "with_sets.toml").write_text(
        '[model]\nnum_layers = 1\n[data]\ntokenizer = "byte"\n[data.sets.other]\ncorpus = "synthetic"\n'
    )
    return folder


def parse(folder: Path, start: dict[str, Any], /, **changes: Any) -> Study:
    contents = {**copy.deepcopy(start), **changes}
    return Study.parse({name: value for name, value in contents.items() if value is not None}, folder / "s.toml")


def test_combinations_hold_the_settings_of_their_changes(folder: Path) -> None:
    study = parse(folder, ARMS, combine={"mode": "pairs"})
    assert [arm.name for arm in study.arms] == [
        "baseline", "drop", "decay", "clip", "drop+decay", "drop+clip", "decay+clip",
    ]  # fmt: skip
    pair = study.arms[4]
    assert pair.factors == ("drop", "decay")
    assert pair.settings == {"model.dropout": 0.05, DECAY: 0.3}
    assert pair.recipe == study.base.with_(pair.settings)
    assert study.arms[0].factors == ()
    assert study.design is not None
    assert study.design.mode == "pairs"
    assert len(parse(folder, ARMS, combine={"mode": "full"}).arms) == 8
    arms = {**ARMS["arms"], "warm": {"schedule.warmup_fraction": 0.2}}
    fraction = parse(folder, ARMS, arms=arms, combine={"mode": "fraction"})
    assert len(fraction.arms) == 8
    assert fraction.design is not None
    assert (("drop", "decay"), ("clip", "warm")) in fraction.design.aliases


def test_an_axis_with_a_condition_is_there_only_where_it_is_met(folder: Path) -> None:
    vary = {KIND: ["mlp", "moe"], TOP_K: {"values": [1, 2], "when": {KIND: "moe"}}}
    study = parse(folder, VARY, vary=vary)
    assert [arm.name for arm in study.arms] == ["kind=mlp", "kind=moe,top_k=1", "kind=moe,top_k=2"]
    assert [arm.recipe.model.feed_forward.kind for arm in study.arms] == ["mlp", "moe", "moe"]
    assert study.varied == (KIND, TOP_K)


def test_conditions_may_follow_one_another_and_stand_in_any_order(folder: Path) -> None:
    vary = {
        EXPERTS: {"values": [2, 4], "when": {TOP_K: [1]}},
        TOP_K: {"values": [1, 2], "when": {KIND: ["moe"]}},
        KIND: ["mlp", "moe"],
    }
    names = [arm.name for arm in parse(folder, VARY, vary=vary).arms]
    assert names == ["kind=mlp", "num_experts=2,top_k=1,kind=moe", "num_experts=4,top_k=1,kind=moe", "top_k=2,kind=moe"]


def test_every_arm_is_tuned_over_what_its_conditions_leave(folder: Path) -> None:
    study = parse(folder, TUNE)
    assert study.joined == "tune"
    assert [part.name for part in study.parts] == ["baseline", "drop", "decay", "clip"]
    assert [arm.name for arm in study.parts[1].arms] == ["learning_rate=0.02", "learning_rate=0.04"]
    assert {arm.recipe.model.dropout for arm in study.parts[1].arms} == {0.05}
    kinds = {
        "vary": {KIND: ["mlp", "moe"]},
        "tune": {LR: [0.02, 0.04], TOP_K: {"values": [1, 2], "when": {KIND: "moe"}}},
    }
    study = parse(folder, VARY, **kinds)
    assert [len(part.arms) for part in study.parts] == [2, 4]
    assert [[axis.setting for axis in part.axes] for part in study.parts] == [[LR], [LR, TOP_K]]


def test_a_study_is_repeated_under_each_condition(folder: Path) -> None:
    study = parse(folder, ACROSS)
    assert study.joined == "across"
    assert [part.name for part in study.parts] == ["updates=10", "updates=20"]
    assert [part.base.num_updates for part in study.parts] == [10, 20]
    assert [arm.recipe.num_updates for arm in study.parts[1].arms] == [20, 20]
    assert study.trained_arms == (*study.parts[0].arms, *study.parts[1].arms)
    corpora = parse(folder, VARY, across={"data.corpus": ["python-stdlib", "synthetic"]})
    assert [part.base.data.corpus for part in corpora.parts] == ["python-stdlib", "synthetic"]


def test_arms_may_train_on_different_text_when_one_text_measures_all(folder: Path) -> None:
    sizes = parse(folder, VARY, vary={"data.max_train_tokens": [1000, 2000]})
    assert [arm.recipe.data.max_train_tokens for arm in sizes.arms] == [1000, 2000]
    corpora = {"base": "with_sets.toml", "vary": {"data.corpus": ["python-stdlib", "synthetic"]}}
    study = parse(folder, VARY, metric="sets.other.bits_per_byte", **corpora)
    assert study.metric == "sets.other.bits_per_byte"


BOTH = {"tune": {LR: [0.02, 0.04]}, "across": {"train.updates": [10, 20]}}


@pytest.mark.parametrize(
    ("start", "changes", "said"),
    [
        (ARMS, BOTH, " [across]: given beside [tune];"),
        (ARMS, {"tune": {}}, " [tune]: empty;"),
        (ARMS, {"across": {}}, " [across]: empty;"),
        (ARMS, {"tune": 3}, " [tune]: 3; tune is a section"),
        (ARMS, {"arms": None, "tune": {LR: [0.02, 0.04]}}, " [tune]: given without arms;"),
        (ARMS, {"tune": {"seed": [1, 2]}}, " [tune] \"seed\": 'seed'; seeds are blocks"),
        (ARMS, {"across": {"seed": [1, 2]}}, " [across] \"seed\": 'seed'; seeds are blocks"),
        (
            ARMS,
            {"tune": {"model.dropout": [0.1, 0.2]}},
            ' [tune] "model.dropout": [0.1, 0.2]; [arms] changes "model.dr',
        ),
        (ACROSS, {"across": {LR: [0.1, 0.2]}}, f' [across] "{LR}": [0.1, 0.2]; [vary] changes'),
        (ACROSS, {"set": {"train.updates": 5}}, ' [set] "train.updates": 5; [across] varies it too'),
        (
            ACROSS,
            {"set": {"train.tokens": 5000}},
            ' [set] "train.tokens": 5000; [across] varies train.updates, which s',
        ),
        (TUNE, {"set": {LR: 0.1}}, f' [set] "{LR}": 0.1; [tune] varies it too'),
        (TUNE, {"seeds": {"confirm": 0}}, ' [seeds] "confirm": 0; arms at their own best are compared on fresh seeds'),
        (TUNE, {"tune": {LR: [0.02]}}, f' [tune] "{LR}": [0.02]; an axis needs two values or more'),
        (ACROSS, {"across": {"train.micro_batch_sequences": [1, 2]}}, ' [across]: arm "learning_rate=0.02" of '),
        (
            ARMS,
            {"arms": {"a": {"train.tokens": 5120}}, "across": {"train.updates": [5, 10]}},
            ' [across] "train.updates": [5, 10]; [arms] changes "train.tokens" too',
        ),
        (ACROSS, {"across": {"train.updates": list(range(1, 103))}}, " [across]: 102 parts; a study has 2 to 100"),
        (
            VARY,
            {"vary": {LR: {"log": [0.001, 1.0], "points": 201}}, "seeds": {"search": 500, "max": 500}},
            ": 201 arms on 500 seeds are 100505 runs; a study has at most 100000",
        ),
        (
            ARMS,
            {"combine": {"mode": "fraction"}},
            " [combine] \"mode\": 'fraction'; a fraction of resolution IV has 4 to",
        ),
        (ARMS, {"combine": {"mode": "luck"}}, " [combine] \"mode\": 'luck'; input should be 'none', 'pairs'"),
        (ARMS, {"combine": {"made": "full"}}, ' [combine] "made": no such setting; did you mean "mode"?'),
        (
            ARMS,
            {"arms": {"a": {"model.dropout": 0.1}, "b": {"model.dropout": 0.2}}, "combine": {"mode": "pairs"}},
            ' [combine] "model.dropout": changed by "a" and by "b"; changes of one setting cannot be combined',
        ),
        (
            ARMS,
            {
                "arms": {"a": {"schedule.warmup_fraction": 0.2}, "b": {"schedule.warmup_updates": 5}},
                "combine": {"mode": "full"},
            },
            ' [combine] "schedule.warmup_updates": changed by "a" and by "b"',
        ),
        (
            ARMS,
            {"arms": {"a+b": {"model.dropout": 0.1}, "c": {DECAY: 0.2}}, "combine": {"mode": "full"}},
            "+ joins the names",
        ),
        (
            ARMS,
            {"arms": {"dense": {KIND: "mlp"}, "one": {TOP_K: 1}}, "combine": {"mode": "full"}},
            f' [combine] "dense+one" "{TOP_K}": ',
        ),
        (VARY, {"vary": {LR: {"values": [0.1, 0.2], "when": {LR: 0.1}}}}, "an axis cannot depend on itself"),
        (VARY, {"vary": {LR: {"values": [0.1, 0.2], "when": {}}}}, ' "when": {}; must be a table of settings'),
        (VARY, {"vary": {LR: {"values": [0.1, 0.2], "when": {KIND: "moe"}}}}, "it is the same in every arm"),
        (
            VARY,
            {"vary": {KIND: ["mlp", "moe"], TOP_K: {"values": [1, 2], "when": {KIND: "meo"}}}},
            f' [vary] "{TOP_K}" "when" "{KIND}": \'meo\'; its axis has no such value (mlp, moe)',
        ),
        (
            VARY,
            {"vary": {KIND: ["mlp", "moe"], LR: {"values": [1, 2], "when": {KIND: ["mlp", "moe"]}}}},
            "every value of its axis meets it; remove it",
        ),
        (
            VARY,
            {
                "vary": {
                    LR: {"values": [0.1, 0.2], "when": {DECAY: 0.1}},
                    DECAY: {"values": [0.1, 0.2], "when": {LR: 0.1}},
                }
            },
            "conditions run in a circle",
        ),
        (
            VARY,
            {
                "vary": {
                    KIND: ["mlp", "moe"],
                    TOP_K: {"values": [1, 2], "when": {KIND: "moe"}},
                    LR: {"values": [0.1, 0.2], "when": {KIND: "mlp", TOP_K: 1}},
                }
            },
            f" [vary] \"{LR}\" \"when\": {{'{KIND}': ['mlp'], ",
        ),
        (
            VARY,
            {"vary": {KIND: ["mlp", "moe"]}, "tune": {TOP_K: {"values": [1, 2], "when": {KIND: "moe"}}}},
            ' [tune]: nothing to tune in arm "kind=mlp"',
        ),
        (VARY, {"strategy": {"trials": 5}}, ' [strategy] "trials": 5; it belongs to another method'),
        (VARY, {"strategy": {"method": "optuna", "batch": 50}}, ' "batch": 50; may not exceed trials = 40'),
        (ARMS, {"strategy": {"method": "optuna"}}, " [strategy] \"method\": 'optuna'; it looks for values on axes"),
        (
            VARY,
            {"vary": {LR: {"log": [0.1, 1.0], "points": 3}}, "strategy": {"method": "optuna"}},
            ' "points": 3; proposals lie anywhere between the ends',
        ),
        (VARY, {"vary": {"data.max_tokens": [5000, 6000]}}, ' "data.max_tokens": 5000 and 6000; arms must be measured'),
        (
            VARY,
            {"vary": {"data.vocabulary_tokens": [300, 400]}},
            ' "data.vocabulary_tokens": 300 and 400; arms must be',
        ),
        (
            VARY,
            {"metric": "sets.other.loss"},
            ' "metric": \'sets.other.loss\'; arm "learning_rate=0.02" has no such set',
        ),
        (
            VARY,
            {"metric": "sets.other.lss"},
            ' "metric": \'sets.other.lss\'; not one of the known; did you mean "sets.NAME.loss"',
        ),
        (
            VARY,
            {
                "base": "with_sets.toml",
                "metric": "sets.other.loss",
                "set": {"data.tokenizer": "bpe"},
                "vary": {"data.corpus": ["python-stdlib", "synthetic"]},
            },
            "is trained on each arm's own text, so their tokens differ",
        ),
    ],
)
def test_mistakes_of_kinds_are_one_line(
    folder: Path, start: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises((StudyError, RecipeError)) as caught:
        parse(folder, start, **changes)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{folder}/s.toml")
    assert len(str(caught.value).splitlines()) == 1
