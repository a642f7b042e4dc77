"""A study made of several files: `extends`."""

from pathlib import Path

import pytest

from blueberry.errors import StudyError
from blueberry.study.spec import Study

COMMON = """
question = "Which rate?"
base = "recipe.toml"
[set]
"train.updates" = 20
"model.dropout" = 0.1
[vary]
"optimizer.muon.learning_rate" = { log = [0.001, 1.0], points = 13 }
[seeds]
search = 4
"""


@pytest.fixture
def write(tmp_path: Path):
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "recipe.toml").write_text("[model]\nnum_layers = 1\n")

    def write(**files: str) -> Path:
        for name, text in {"common": COMMON, **files}.items():
            path = tmp_path / ("common/common.toml" if name == "common" else f"{name}.toml")
            path.write_text(text)
        return tmp_path / "own.toml"

    return write


def test_what_a_file_leaves_out_is_that_of_the_one_it_extends(write) -> None:
    study = Study.load(write(own='extends = "common/common.toml"\n[set]\n"train.updates" = 30\n[seeds]\nconfirm = 0\n'))
    assert (study.name, study.question, len(study.arms)) == ("own", "Which rate?", 13)
    assert study.fixed == {"train.updates": 30, "model.dropout": 0.1}
    assert (study.seeds.search, study.seeds.confirm) == (4, 0)
    assert (study.base.model.num_layers, study.line) == (1, "recipe")


def test_what_is_compared_is_replaced_whole(write) -> None:
    own = 'extends = "common/common.toml"\n[vary]\n[arms.more]\n"optimizer.adamw.weight_decay" = 0.3\n'
    study = Study.load(write(own=own))
    assert [arm.name for arm in study.arms] == ["baseline", "more"]
    other = 'extends = ["common/common.toml"]\n[vary]\n"optimizer.adamw.weight_decay" = [0.1, 0.3]\n'
    assert Study.load(write(own=other)).varied == ("optimizer.adamw.weight_decay",)


def test_later_files_stand_over_earlier_ones_and_over_those_that_they_extend(write) -> None:
    study = Study.load(
        write(
            middle='extends = "common/common.toml"\n[set]\n"train.updates" = 40\n',
            small='base = "moe-nano"\n[set]\n"model.dropout" = 0.0\n[seeds]\nsearch = 2\n',
            own='extends = ["middle.toml", "small.toml"]\n',
        )
    )
    assert study.fixed == {"train.updates": 40, "model.dropout": 0.0}
    assert (study.seeds.search, study.line) == (2, "moe-nano")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ('extends = "none.toml"\n', "'none.toml'; there is no such file"),
        ("extends = 3\n", "3; must be the path of a study file, or a list of them"),
        ('extends = ["common/common.toml", 3]\n', "must be the path of a study file"),
        ('extends = [""]\n', "must be the path of a study file"),
        ('extends = "own.toml"\n', "a file cannot extend itself"),
        ('extends = "back.toml"\n', "a file cannot extend itself"),
        ('extends = "odd.toml"\n', 'no such setting; did you mean "seeds"?'),
    ],
)
def test_what_cannot_be_extended_is_refused_in_one_line(write, own: str, said: str) -> None:
    path = write(own=own, back='extends = "own.toml"\n', odd="[seedss]\nsearch = 3\n")
    with pytest.raises(StudyError) as refused:
        Study.load(path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_empty_section_of_a_study_by_itself_is_still_refused(write) -> None:
    alone = COMMON.replace('"recipe.toml"', '"common/recipe.toml"') + "[tune]\n"
    with pytest.raises(StudyError, match=r"\[tune\]: empty"):
        Study.load(write(own=alone))


def test_a_setting_has_one_place_over_all_files(write) -> None:
    across = Study.load(write(own='extends = "common/common.toml"\n[across]\n"train.updates" = [10, 30]\n'))
    assert across.fixed == {"model.dropout": 0.1}
    assert [part.base.num_updates for part in across.parts] == [10, 30]
    tokens = Study.load(write(own='extends = "common/common.toml"\n[set]\ntrain.tokens = 10240\nmodel.dropout = 0.2\n'))
    assert tokens.fixed == {"model.dropout": 0.2, "train.tokens": 10240}
    arms = '[arms.none]\n"model.dropout" = 0.0\n'
    assert Study.load(write(own=f'extends = "common/common.toml"\n[vary]\n{arms}')).fixed["model.dropout"] == 0.1
    with pytest.raises(StudyError, match="varies it too"):
        Study.load(
            write(
                middle='extends = "common/common.toml"\n[across]\n"train.updates" = [10, 30]\n',
                own='extends = "middle.toml"\n[set]\n"train.updates" = 10\n',
            )
        )


def test_a_setting_nobody_knows_is_blamed_on_the_file_that_says_it(write) -> None:
    with pytest.raises(StudyError, match=r'odd.toml \[set\] "train.update"'):
        Study.load(write(own='extends = ["common/common.toml", "odd.toml"]\n', odd='[set]\n"train.update" = 3\n'))
