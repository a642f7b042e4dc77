import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blueberry.errors import RecipeError, StudyError
from blueberry.records import goal_of
from blueberry.study.spec import Seeds, Study

SWEEP: dict[str, Any] = {
    "question": "Which rate?",
    "base": "recipe.toml",
    "metric": "val_loss",
    "min_effect": 0.01,
    "alpha": 0.05,
    "set": {"train.updates": 20},
    "vary": {"optimizer.muon.learning_rate": {"log": [0.001, 1.0], "points": 13}},
    "seeds": {"search": 3, "confirm": 5, "max": 16},
    "strategy": {"method": "grid"},
    "combine": {"mode": "none"},
}
COMPARE: dict[str, Any] = {
    "question": "Does it help?",
    "base": "recipe.toml",
    "arms": {"small": {"train.batch_sequences": 8, "model.dropout": 0.05}, "wd": {"optimizer.adamw.weight_decay": 1}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    (folder / "recipe.toml").write_text("seed = 7\n[model]\nnum_layers = 1\n")
    return folder


def parse(folder: Path, start: dict[str, Any] = SWEEP, /, **changes: Any) -> Study:
    """A file with some keys changed, or left out where the change is None."""
    contents = {**copy.deepcopy(start), **changes}
    return Study.parse({name: value for name, value in contents.items() if value is not None}, folder / "lr.toml")


def test_load_reads_every_part(folder: Path) -> None:
    (folder / "sweep.toml").write_text(
        'question = "Which  rate\\n?"\nbase = "recipe.toml"\nmetric = "train_loss"\n'
        "[set]\ntrain.updates = 20\n"
        "[vary]\noptimizer.muon.learning_rate = { log = [0.001, 1.0], points = 13 }\n"
        "[seeds]\nsearch = 2\nconfirm = 0\nmax = 8\n"
    )
    study = Study.load(folder / "sweep.toml")
    assert (study.name, study.question, study.metric) == ("sweep", "Which rate ?", "train_loss")
    assert (study.min_effect, study.alpha, study.method, study.trainer) == (0.005, 0.05, "grid", None)
    assert study.seeds == Seeds(search=2, confirm=0, max=8)
    assert (study.base.seed, study.base.model.num_layers, study.base.num_updates) == (7, 1, 20)
    assert study.fixed == {"train.updates": 20}
    assert study.varied == ("optimizer.muon.learning_rate",)
    (axis,) = study.axes
    assert axis.scale == "log"
    assert axis.values[:4] == (0.001, 0.001778, 0.003162, 0.005623)
    assert axis.values[-1] == 1.0
    assert len(study.arms) == 13
    assert study.arms[1].name == "learning_rate=0.001778"
    assert study.arms[1].settings == {"optimizer.muon.learning_rate": 0.001778}
    assert study.arms[1].recipe == study.base.with_(**{"optimizer.muon.learning_rate": 0.001778})


@pytest.mark.parametrize(
    ("metric", "goal"),
    [
        *((name, "maximize") for name in (
            "accuracy", "evalAccuracy", "eval/f1", "f1_macro", "pass@1", "top5", "tokens_per_second", "r2", "BLEU",
            "rougeL", "exact_match", "win_rate", "log_likelihood", "sets.code.accuracy", "mmlu",
        )),
        *((name, "minimize") for name in (
            "val_loss", "val_bpb", "word_error", "accuracy_loss", "neg_log_likelihood", "time_to_accuracy", "ppl",
        )),
        *((name, None) for name in ("quality", "metric", "y")),
    ],
)  # fmt: skip
def test_a_metrics_name_says_what_is_better(metric: str, goal: str | None) -> None:
    assert goal_of(metric) == goal


def test_a_study_maximizes_what_a_program_reports_where_it_says_so(folder: Path) -> None:
    program = {"command": ["x", "{recipe}"]}
    with pytest.raises(StudyError, match=r'"metric": \'accuracy\'; more of it is better.*add goal = "maximize"'):
        parse(folder, trainer=program, metric="accuracy")
    assert parse(folder, trainer=program, metric="accuracy", goal="maximize").goal == "maximize"
    assert parse(folder, trainer=program, metric="quality", goal="maximize").goal == "maximize"
    assert parse(folder, trainer=program, metric="quality").goal == "minimize"
    assert parse(folder, metric="val_accuracy", goal="maximize").metric == "val_accuracy"


def test_arms_stand_beside_the_unchanged_baseline(folder: Path) -> None:
    study = parse(folder, COMPARE, set={"model.dropout": 0.1})
    assert [arm.name for arm in study.arms] == ["baseline", "small", "wd"]
    assert study.arms[0].recipe == study.base
    assert study.base.model.dropout == 0.1
    assert study.arms[1].recipe.model.dropout == 0.05
    assert study.arms[2].settings == {"optimizer.adamw.weight_decay": 1.0}
    assert study.axes == ()
    assert study.varied == ("train.batch_sequences", "model.dropout", "optimizer.adamw.weight_decay")


def test_a_grid_crosses_its_axes_and_names_are_short_but_distinct(folder: Path) -> None:
    vary = {"optimizer.muon.learning_rate": [0.01, 1], "model.dropout": {"linear": [0, 0.3], "points": 4}}
    names = [arm.name for arm in parse(folder, vary=vary).arms]
    assert names[:3] == [
        "learning_rate=0.01,dropout=0.0",
        "learning_rate=0.01,dropout=0.1",
        "learning_rate=0.01,dropout=0.2",
    ]
    assert names[4] == "learning_rate=1.0,dropout=0.0"
    kinds = {"model.feed_forward.kind": ["mlp", "moe"], "schedule.kind": ["linear", "cosine"]}
    assert parse(folder, vary=kinds).arms[0].name == "feed_forward.kind=mlp,schedule.kind=linear"


def test_sets_and_mixtures_are_named_in_a_study_as_in_a_recipe(folder: Path) -> None:
    """By names that their user chose: dotted, or as tables."""
    dotted = {"data.sets.prose.corpus": "synthetic", "data.corpus": "mixture", "data.mixture.code.weight": 2.0}
    tables = {
        "data": {"sets": {"prose": {"corpus": "synthetic"}}, "corpus": "mixture", "mixture": {"code": {"weight": 2.0}}}
    }
    for written in (dotted, tables):
        study = parse(folder, set=written, metric="sets.prose.loss")
        assert study.base.data.sets["prose"].corpus == "synthetic"
        assert study.base.data.mixture["code"].weight == 2.0
        assert all(arm.recipe.data == study.base.data for arm in study.arms)
    with pytest.raises(StudyError, match=r'"data\.sets\.prose\.corpsu": no such setting'):
        parse(folder, set={"data.sets.prose.corpsu": "synthetic"})


def test_points_of_a_whole_setting_are_whole(folder: Path) -> None:
    vary = {"train.batch_sequences": {"log": [2, 32], "points": 5}}
    assert parse(folder, vary=vary).axes[0].values == (2, 4, 8, 16, 32)
    assert all(isinstance(arm.recipe.train.batch_sequences, int) for arm in parse(folder, vary=vary).arms)


LR = "optimizer.muon.learning_rate"


@pytest.mark.parametrize(
    ("start", "changes", "said"),
    [
        (SWEEP, {"quesiton": 1}, ' "quesiton": no such setting; did you mean "question"?'),
        (SWEEP, {"question": None}, ' "question": left out;'),
        (SWEEP, {"question": "  "}, " \"question\": '  '; must be a text"),
        (SWEEP, {"base": None}, ' "base": left out;'),
        (SWEEP, {"base": "none.toml"}, "none.toml: no such file, and no recipe of that name; known: "),
        (
            SWEEP,
            {"base": "ledger:nano"},
            " \"base\": 'ledger:nano'; the ledger cannot be read (.blueberry: no store here",
        ),
        (SWEEP, {"metric": "val_acuracy"}, " \"metric\": 'val_acuracy'; not one of the known"),
        (
            SWEEP,
            {"metric": "val_accuracy"},
            " \"metric\": 'val_accuracy'; more of it is better, and the study minimizes",
        ),
        (SWEEP, {"metric": "sets.code.accuracy"}, " \"metric\": 'sets.code.accuracy'; more of it is better"),
        (SWEEP, {"goal": "maximize"}, " \"goal\": 'maximize'; less val_loss is better; leave goal out"),
        (SWEEP, {"goal": "maximise"}, " \"goal\": 'maximise'; input should be 'minimize' or 'maximize'"),
        (SWEEP, {"min_effect": 0}, ' "min_effect": 0; input should be greater than'),
        (SWEEP, {"min_effect": True}, ' "min_effect": True; input should be a valid number'),
        (SWEEP, {"alpha": 5e-324}, ' "alpha": 5e-324; input should be greater than or equal to'),
        (SWEEP, {"min_effect": 1e308}, ' "min_effect": 1e+308; input should be less than or equal to'),
        (
            SWEEP,
            {"question": "\x1b[31mred"},
            " \"question\": '\\x1b[31mred'; must be a text of 1 to 1,000 characters that can be",
        ),
        (SWEEP, {"question": "a\u202eb"}, " \"question\": 'a\\u202eb'; must be a text"),
        (SWEEP, {"question": "a" * 2000}, "; must be a text of 1 to 1,000 characters"),
        (SWEEP, {"metric": "a\x01b", "trainer": {"command": ["x"]}}, " \"metric\": 'a\\x01b'; must be a text"),
        (
            SWEEP,
            {"vary": {LR: {"log": [1e-320, 1e5], "points": 3}}},
            "[1e-320, 100000.0]; must be two numbers, 0 or 1e-100",
        ),
        (
            SWEEP,
            {"vary": {LR: [0.1, 1e308]}},
            f' [vary] "{LR}": 1e+308; a number is 0 or from 1e-100 to 1e+100 in size',
        ),
        (SWEEP, {"set": {"model.dropout": 1e-200}}, ' [set] "model.dropout": 1e-200; a number is 0 or from'),
        (SWEEP, {"seeds": {"search": 2**5000}}, ' [seeds] "search": '),
        (SWEEP, {"alpha": 0.5}, ' "alpha": 0.5; input should be less than 0.5'),
        (SWEEP, {"seeds": {"serach": 3}}, ' [seeds] "serach": no such setting; did you mean "search"?'),
        (SWEEP, {"seeds": {"search": 0}}, ' [seeds] "search": 0; input should be greater than or equal to 1'),
        (SWEEP, {"seeds": {"search": 17}}, ' [seeds] "search": 17; may not exceed max = 16'),
        (SWEEP, {"seeds": 3}, " [seeds]: 3; seeds is a section; give its settings"),
        (SWEEP, {"set": {"seed": 2**31 - 5}}, ' [seeds] "max": 16; seeds from 2147483643 would pass'),
        (
            SWEEP,
            {"strategy": {"method": "luck"}},
            " [strategy] \"method\": 'luck'; input should be 'grid', 'locate', 'race' or 'optuna'",
        ),
        (SWEEP, {"strategy": {"n": 1}}, ' [strategy] "n": no such setting; known: batch, method, runs, seed, trials'),
        (SWEEP, {"combine": {"mode": "pairs"}}, " [combine] \"mode\": 'pairs'; only named arms are combined"),
        (SWEEP, {"trainer": {"command": ["x"]}}, ' [trainer] "optimizer.muon.learning_rate": given, but the command'),
        (SWEEP, {"vary": None}, ' "vary": left out; a study compares two arms or more;'),
        (SWEEP, {"arms": {"a": {"model.dropout": 0.1}}}, " [arms]: given beside [vary];"),
        (SWEEP, {"vary": {"optimizer.muon.lrr": [1]}}, ' [vary] "optimizer.muon.lrr": no such setting; did you mean '),
        (SWEEP, {"vary": {"optimizer.muon.learning_rte": [1]}}, f'no such setting; did you mean "{LR}"?'),
        (
            SWEEP,
            {"vary": {"schedule.decay_fraction": [0.1, 0.2]}},
            ' [vary] "schedule.decay_fraction": given beside kind',
        ),
        (SWEEP, {"vary": {"seed": [1, 2]}}, " [vary] \"seed\": 'seed'; seeds are blocks"),
        (
            SWEEP,
            {"vary": {"data.corpus": ["synthetic", "python-stdlib"]}},
            " \"data.corpus\": 'synthetic' and 'python-stdlib'; arms must be measured on the same text; vary data.max_tr",
        ),
        (SWEEP, {"vary": {"train.updates": [5, 6]}}, ' [set] "train.updates": 20; [vary] varies it too'),
        (SWEEP, {"vary": {LR: [0.1]}}, f' [vary] "{LR}": [0.1]; an axis needs two values or more'),
        (SWEEP, {"vary": {LR: [1, 0.1, 1.0]}}, f' [vary] "{LR}": 1.0; the value stands twice'),
        (SWEEP, {"vary": {LR: [0.1, -1]}}, f' [vary] "{LR}": -1.0; input should be greater than 0'),
        (SWEEP, {"vary": {LR: ["a", "b"]}}, f" [vary] \"{LR}\": 'a'; input should be a valid number"),
        (SWEEP, {"vary": {LR: [[1], [2]]}}, f' [vary] "{LR}": [1]; must be a text, a number or true/false'),
        (SWEEP, {"vary": {LR: 0.1}}, f' [vary] "{LR}": 0.1; an axis is a list or'),
        (SWEEP, {"vary": {LR: {"log": [0.1, 1]}}}, "an axis between two ends needs points"),
        (SWEEP, {"vary": {LR: {"log": [0, 1], "points": 3}}}, "a log axis has only numbers above 0"),
        (SWEEP, {"vary": {LR: {"log": [1, 0.1], "points": 3}}}, "the first end must be below the last"),
        (SWEEP, {"vary": {LR: {"log": [0.1], "points": 3}}}, "must be two numbers"),
        (
            SWEEP,
            {"vary": {LR: {"lgo": [0.1, 1], "points": 3}}},
            f' [vary] "{LR}" "lgo": no such key; did you mean "log"?',
        ),
        (
            SWEEP,
            {"vary": {LR: {"log": [0.1, 1], "linear": [1, 2], "points": 3}}},
            "an axis has one of values = [..], log = [a, b] and linear",
        ),
        (SWEEP, {"vary": {LR: {"log": [1.0, 1.001], "points": 100}}}, "points fall together when rounded"),
        (SWEEP, {"vary": {LR: {"log": [0.1, 1], "points": 10**9}}}, ' "points": 1000000000; must be a whole number'),
        (
            SWEEP,
            {"vary": {"train.tokens": [1023, 1024]}, "set": None},
            ' [vary] "train.tokens": arms "tokens=1023" and ',
        ),
        (SWEEP, {"vary": {"train.micro_batch_sequences": [1, 2]}}, ' [vary] "train.micro_batch_sequences": arms '),
        (
            SWEEP,
            {"set": {"train.updates": 5, "train.tokens": 5}},
            ' [set] "train.tokens": 5; train.updates is given too',
        ),
        (SWEEP, {"set": {LR: 0.1}}, f' [set] "{LR}": 0.1; [vary] varies it too'),
        (SWEEP, {"set": {"model.width": 2**70}}, ' [set] "model.width": an integer beyond 64 bits; must be a text'),
        (SWEEP, {"set": {"a\nb": 1}}, ' [set] "a\\nb": no such setting'),
        (SWEEP, {"set": {"model.width": 63}}, ' [set] "model.num_heads": 2; it must divide width = 63'),
        (COMPARE, {"arms": {"baseline": {"model.dropout": 0.1}}}, "an arm's name is made of"),
        (COMPARE, {"arms": {"a b": {"model.dropout": 0.1}}}, ' [arms.a b]: "a b"; an arm\'s name is made of'),
        (COMPARE, {"arms": {"a": {}}}, ' [arms.a]: arms "baseline" and "a" are the same run'),
        (COMPARE, {"arms": {"a": {"model.dropout": 0.0}}}, ' [arms.a] "model.dropout": arms "baseline" and "a" are'),
        (COMPARE, {"arms": {"a": {"seed": 3}}}, " [arms.a] \"seed\": 'seed'; seeds are blocks"),
        (
            COMPARE,
            {"arms": {"a": {"model.droput": 0.1}}},
            ' [arms.a] "model.droput": no such setting; did you mean "model.d',
        ),
        (COMPARE, {"arms": {"a": 3}}, " [arms.a]: 3; an arm is a table"),
    ],
)
def test_mistakes_are_one_line_that_names_the_place(
    folder: Path, start: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises((StudyError, RecipeError)) as caught:
        parse(folder, start, **changes)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{folder}/lr.toml")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["...toml", "..toml", "a\x1bb.toml", "a\u202eb.toml"])
def test_a_study_has_a_name_that_a_folder_can_have(folder: Path, name: str) -> None:
    with pytest.raises(StudyError, match="a study is named after its file") as caught:
        Study.parse(SWEEP, folder / name)
    assert str(caught.value).isprintable()


def test_names_of_arms_can_be_printed(folder: Path) -> None:
    program = {"command": ["x", "{recipe}"]}
    vary = {"script.text": ["a\x1b[31m", "b\nc", "\u202ed", "d"]}
    names = [arm.name for arm in parse(folder, vary=vary, set=None, trainer=program).arms]
    assert names == ["text=a\\u001b[31m", "text=b\\nc", "text=\\u202ed", "text=d"]


def test_two_arms_that_are_the_same_run_name_the_dead_knob(folder: Path) -> None:
    arms = {"a": {"model.dropout": 0.1}, "b": {"model.dropout": 0.1, "train.micro_batch_sequences": 4}}
    with pytest.raises(
        StudyError, match=r'\[arms.b\] "train.micro_batch_sequences": arms "a" and "b" are the same run'
    ):
        parse(folder, COMPARE, arms=arms)


@pytest.mark.parametrize("content", ["question = ", "\xff", "a = 1\na = 2"])
def test_files_that_are_no_toml_are_study_errors(folder: Path, content: str) -> None:
    (folder / "bad.toml").write_bytes(content.encode("latin-1"))
    with pytest.raises(StudyError, match=r"bad\.toml"):
        Study.load(folder / "bad.toml")
    with pytest.raises(StudyError, match="no such file"):
        Study.load(folder / "absent.toml")


scalars = st.one_of(
    st.booleans(), st.integers(), st.integers(-(2**5000), 2**5000), st.floats(), st.text(max_size=8), st.dates()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["question", "base", "metric", "min_effect", "alpha", "set", "vary", "arms", "seeds", "strategy", "combine"]
NAMES = ["train.updates", LR, "model", "optimizer", "schedule.kind", "seed", "model.feed_forward.kind", "a\x85b", "log"]
names = st.sampled_from(NAMES) | st.text(max_size=6)
tables = st.dictionaries(names, values | st.dictionaries(names, values, max_size=2), max_size=3)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A good study with one or two values anywhere in it replaced, removed or added."""
    study = copy.deepcopy(draw(st.sampled_from([SWEEP, COMPARE])))
    for _ in range(draw(st.integers(1, 2))):
        table = study
        while True:
            inner = [key for key, value in table.items() if isinstance(value, dict)]
            if not inner or draw(st.booleans()):
                break
            table = table[draw(st.sampled_from(inner))]
        key = draw(st.sampled_from([*table, *NAMES, *KEYS]) | st.text(max_size=4))
        if draw(st.booleans()):
            table.pop(key, None)
        else:
            table[key] = draw(values | tables)
    return study


@settings(max_examples=30, deadline=None)
@given(study=mutated() | st.dictionaries(st.sampled_from(KEYS), values | tables, max_size=8))
def test_whatever_a_file_holds_is_a_study_or_one_line(folder: Path, study: dict[str, Any]) -> None:
    said = None
    try:
        Study.parse(study, folder / "lr.toml")
    except (StudyError, RecipeError) as error:  # any other exception fails the test
        said = str(error)
    assert said is None or (len(said.splitlines()) == 1 and said.startswith(str(folder)))
