from pathlib import Path

import pytest

from blueberry.errors import StudyError
from blueberry.study.sections import study_file
from blueberry.study.spec import Study


@pytest.mark.parametrize(("kind", "num_arms"), [("sweep", 0), ("compare", 3)])
def test_a_new_file_loads(tmp_path: Path, kind: str, num_arms: int) -> None:
    (tmp_path / 'my "base".toml').write_text("seed = 1\n")
    (tmp_path / "new.toml").write_text(study_file(kind, 'my "base".toml'))
    study = Study.load(tmp_path / "new.toml")
    assert len(study.arms) == num_arms
    assert study.base.seed == 1
    assert "#" in study_file(kind, "x")


def test_an_unknown_kind_names_the_known() -> None:
    with pytest.raises(StudyError, match=r'no such kind of study; did you mean "sweep"[?]'):
        study_file("swep", "recipe.toml")
