"""Results are read as the judge asks for them: each once, and no more of them held than an arm has."""

import weakref
from collections.abc import Iterator, Mapping

from blueberry.judge.studies import REFEREE, gather_study
from blueberry.records import RunResult
from blueberry.study.plan import plan
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic

SEEDS, ARMS = 3, 8


class Read(Mapping[str, RunResult]):
    """Makes a result whenever it is asked for, and knows how many of those live."""

    def __init__(self, recipes):
        self.recipes, self.asked, self.most, self._living = recipes, [], 0, []

    def __getitem__(self, name: str) -> RunResult:
        result = Synthetic().result(self.recipes[name])
        self.asked.append(name)
        self._living = [one for one in self._living if one() is not None] + [weakref.ref(result)]
        self.most = max(self.most, len(self._living))
        return result

    def __contains__(self, name: object) -> bool:
        return name in self.recipes

    def __iter__(self) -> Iterator[str]:
        return iter(self.recipes)

    def __len__(self) -> int:
        return len(self.recipes)


def test_each_result_is_read_once_and_an_arms_are_held(tmp_path):
    (tmp_path / "base.toml").write_text("[train]\nupdates = 20\n")
    study = Study.parse(
        {
            "question": "Which rate?",
            "base": "base.toml",
            "vary": {"optimizer.muon.learning_rate": {"log": [0.004, 0.9], "points": ARMS}},
            "seeds": {"search": SEEDS, "confirm": 0, "max": SEEDS},
        },
        tmp_path / "lr.toml",
    )
    recipes = {run.fingerprint: run.recipe for run in plan(study, Synthetic.data_digest, {}).runs}
    whole = {name: Synthetic().result(recipe) for name, recipe in recipes.items()}
    planned = plan(study, Synthetic.data_digest, whole, REFEREE)
    read = Read(recipes)
    assert gather_study(study, read, planned) == gather_study(study, whole, planned)
    assert sorted(read.asked) == sorted(recipes)
    assert read.most <= 2 * SEEDS, "those of an arm, and of the one before until they are replaced"
