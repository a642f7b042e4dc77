"""Promotion, the ledger and a line's total, from study files to the store: with a trainer whose answer is known."""

import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import pytest

from blueberry import api, promotions
from blueberry.errors import LedgerError, StudyError
from blueberry.judge.promotion import Promotion, Refusal
from blueberry.recipe import Recipe, fingerprint
from blueberry.study.spec import Study
from blueberry.study.synthetic import Synthetic
from blueberry.text.dataset import data_digest

RATE = "optimizer.muon.learning_rate"
RECIPE = """
[model]
width = 16
num_layers = 1
context_tokens = 16
[model.feed_forward]
hidden = 16
num_experts = 2
[optimizer.muon]
learning_rate = 0.1
[data]
corpus = "files"
tokenizer = "byte"
files = { paths = ["DOCUMENTS"] }
[train]
updates = 60
batch_sequences = 2
[evaluate]
every_updates = 10
tokens = 256
"""


@dataclass(frozen=True)
class Trainer:
    """The synthetic one, under the names that runs on this text have."""

    digest: str
    synthetic: Synthetic = Synthetic()  # noqa: RUF009 (frozen)

    def __call__(self, recipes):
        for recipe in recipes:
            name = fingerprint(recipe, self.digest)
            yield self.synthetic.result(recipe).model_copy(update={"fingerprint": name})


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "store"
        text = folder / "text.jsonl"
        rows = [
            json.dumps({"text": f"document {number} says {number * 7919} and no more. " * 6}) for number in range(200)
        ]
        text.write_text("\n".join(rows))
        (folder / "tiny.toml").write_text(RECIPE.replace("DOCUMENTS", str(text)))

    def study(self, name: str, rate: float, *, base: str = "tiny.toml", confirm: int = 3, more: str = "") -> Study:
        path = self.folder / f"{name}.toml"
        path.write_text(
            f'question = "Is {rate} better?"\nbase = "{base}"\nmin_effect = 0.005\n'
            f'[arms.lower]\n"{RATE}" = {rate}\n{more}[seeds]\nsearch = 5\nconfirm = {confirm}\nmax = 6\n'
        )
        return self.load(name)

    def load(self, name: str) -> Study:
        return Study.load(self.folder / f"{name}.toml", self.store)

    def run(self, study: Study) -> api.Judged:
        return api.conduct(study, store=self.store, trainer=self.trainer, workers=0)

    @property
    def trainer(self) -> Trainer:
        recipe = Study.load(self.folder / "a.toml", self.store).base
        return Trainer(data_digest(recipe.data, self.store / "data"))

    def promote(self, study: Study, **more) -> Promotion:
        found = promotions.promote(study, store=self.store, **more)
        assert isinstance(found, Promotion), found
        return found

    def refuse(self, study: Study, **more) -> tuple[str, ...]:
        found = promotions.promote(study, store=self.store, **more)
        assert isinstance(found, Refusal), found
        return found.reasons


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def line(place: Place) -> Place:
    """Two stages: the rate from .1 to .06 to .03."""
    first = place.study("a", 0.06)
    place.run(first)
    place.promote(first)
    second = place.study("b", 0.03, base="ledger:tiny")
    place.run(second)
    place.promote(second)
    return place


def test_a_winner_becomes_the_baseline_with_its_evidence(place: Place) -> None:
    study = place.study("a", 0.06)
    judged = place.run(study)
    entry = place.promote(study).entry
    support = entry.support
    assert support is not None
    assert (entry.number, entry.line, entry.kind, entry.parent) == (1, "tiny", "promotion", None)
    assert [(one.setting, one.old, one.new) for one in entry.changes] == [(RATE, 0.1, 0.06)]
    assert entry.recipe is not None
    assert entry.recipe["optimizer"]["muon"]["learning_rate"] == 0.06
    verdict = next(one for one in judged.judgement.verdicts if {one.a, one.b} == {"baseline", "lower"})
    turned = 1 if verdict.b == "lower" else -1
    assert support.claim is not None
    assert (support.claim.difference, support.claim.n) == (turned * verdict.difference, 5)
    assert support.claim.interval is not None
    assert support.claim.interval[0] < support.claim.difference < support.claim.interval[1] < 0
    truth = Synthetic()
    expected = truth.expected_nats(study.arms[1].recipe) - truth.expected_nats(study.arms[0].recipe)  # type: ignore[operator]
    assert support.claim.difference == pytest.approx(expected, abs=0.02)
    best = judged.judgement.best
    assert best is not None
    assert (support.mean, support.test_mean, support.n) == (best.mean, best.test_mean, 3)
    assert support.test_mean not in (None, support.mean)
    ours = [run.fingerprint for run in judged.plan.runs if run.arm == "lower"]
    assert support.runs == tuple(ours)
    assert len(support.beaten_runs) == 5
    assert support.seeds == (0, 8)
    assert [build.data_digest for build in support.builds] == [
        Trainer("").synthetic.result(study.base).provenance.data_digest
    ]  # type: ignore[union-attr]


def test_promoting_twice_changes_nothing_and_says_so(place: Place) -> None:
    study = place.study("a", 0.06)
    place.run(study)
    first, second = place.promote(study), place.promote(study)
    assert (first.is_new, second.is_new) == (True, False)
    assert second.entry == first.entry
    assert len(promotions.ledger(store=place.store).lines["tiny"]) == 1


@pytest.mark.parametrize(
    ("rate", "confirm", "said"),
    [
        (0.06, 0, "was not run on fresh seeds"),
        (0.6, 3, "the best arm, baseline, is the baseline itself"),
        (0.1001, 3, "is not shown to beat the baseline: "),
    ],
)
def test_without_support_it_is_refused(place: Place, rate: float, confirm: int, said: str) -> None:
    study = place.study("a", rate, confirm=confirm)
    if rate == 0.1001:  # the arm of the smaller mean by chance alone
        study = next(s for s in (place.study("a", r) for r in (0.1001, 0.1002, 0.0999, 0.0998)) if place.run(s).judgement.best.arm == "lower")  # type: ignore[union-attr]  # fmt: skip
    place.run(study)
    reasons = place.refuse(study)
    assert any(said in reason for reason in reasons), reasons
    assert not any("\n" in reason for reason in reasons)
    assert promotions.ledger(store=place.store).lines == {}


def test_a_blocking_audit_refuses(place: Place) -> None:
    path = place.study("a", 0.06).path
    path.write_text(path.read_text().replace("search = 5", "search = 2"))
    study = place.load("a")
    place.run(study)
    reasons = place.refuse(study)
    assert any(reason.startswith("seeds: arms ended on 2 seeds each") for reason in reasons)
    assert any("is not shown to beat" in reason for reason in reasons), "one line for each reason"


def test_a_study_goes_on_from_the_baseline_and_keeps_the_one_it_began_from(line: Place) -> None:
    entries = promotions.ledger(store=line.store).lines["tiny"]
    assert [(one.number, one.parent) for one in entries] == [(1, None), (2, 1)]
    assert [(one.setting, one.old, one.new) for one in entries[1].changes] == [(RATE, 0.06, 0.03)]
    begun, fresh = line.load("b"), line.study("c", 0.02, base="ledger:tiny")
    assert (begun.entry, begun.base.get(RATE)) == (1, 0.06), "its runs stay the same study"
    assert (fresh.entry, fresh.base.get(RATE), fresh.line) == (2, 0.03, "tiny")
    again = line.promote(begun)
    assert (again.is_new, again.entry.number) == (False, 2)


def test_a_winner_over_something_else_than_the_baseline_is_refused(line: Place) -> None:
    stale = line.study("stale", 0.031)
    line.run(stale)
    (reason,) = line.refuse(stale)
    assert "no arm is the baseline that it would replace, entry 2" in reason
    assert 'base = "ledger:tiny"' in reason
    assert line.promote(stale, to="other").entry.line == "other"


def test_there_is_no_such_baseline(line: Place) -> None:
    with pytest.raises(StudyError, match=r'base": \'ledger:tini\'.*did you mean "tiny"\?') as caught:
        line.study("d", 0.02, base="ledger:tini")
    assert "\n" not in str(caught.value)


def test_rolling_back_is_a_new_entry(line: Place) -> None:
    back = promotions.rollback("tiny", store=line.store)
    assert (back.number, back.kind, back.parent, back.restores) == (3, "rollback", 2, 1)
    assert line.study("c", 0.02, base="ledger:tiny").base.get(RATE) == 0.06
    start = promotions.rollback("tiny", store=line.store)
    assert (start.parent, start.restores) == (3, None)
    assert line.study("d", 0.02, base="ledger:tiny").base.get(RATE) == 0.1
    with pytest.raises(LedgerError, match="nothing to roll back"):
        promotions.rollback("tiny", store=line.store)
    assert [one.number for one in promotions.ledger(store=line.store).lines["tiny"]] == [1, 2, 3, 4]


def test_the_total_is_measured_on_seeds_that_no_study_of_the_line_may_use(line: Place) -> None:
    unpromoted = line.study("c", 0.029, base="ledger:tiny", more="")
    unpromoted.path.write_text(unpromoted.path.read_text().replace("max = 6", "max = 60"))
    line.run(line.load("c"))
    made = promotions.remeasure("tiny", store=line.store, trainer=line.trainer, workers=0)
    assert not isinstance(made.entry, Refusal)
    total = made.entry.total
    assert total is not None
    assert total.seeds == (63, 67), "study c may go to seed 62"
    truth = Synthetic()
    first = line.load("a").base
    expected = truth.expected_nats(first.with_(**{RATE: 0.03})) - truth.expected_nats(first)  # type: ignore[operator]
    assert total.measured.difference == pytest.approx(expected, abs=0.01)
    assert total.measured.n == 5
    assert [stage.number for stage in total.stages] == [1, 2]
    claimed = [stage.claimed for stage in total.stages]
    assert None not in claimed
    assert total.claimed == pytest.approx(sum(one for one in claimed if one is not None))
    again = promotions.remeasure("tiny", store=line.store, trainer=line.trainer, workers=0)
    assert (again.is_new, again.entry) == (False, made.entry)
    every = promotions.remeasure("tiny", store=line.store, trainer=line.trainer, workers=0, every_stage=True)
    assert not isinstance(every.entry, Refusal)
    assert every.entry.total is not None
    assert every.entry.total.seeds == (68, 72), "nor those of an earlier remeasurement"
    between = every.entry.total.stages[0].measured
    assert between is not None
    assert between.difference == pytest.approx(-0.097, abs=0.01)


def test_an_interrupted_remeasurement_goes_on_with_its_seeds(line: Place) -> None:
    whole, begun = line.trainer, []

    def stops(recipes):
        begun.append(recipes)
        if len(begun) == 2:
            raise KeyboardInterrupt
        yield from whole(recipes)

    with pytest.raises(KeyboardInterrupt):
        promotions.remeasure("tiny", store=line.store, trainer=stops, workers=0)
    assert len(promotions.ledger(store=line.store).lines["tiny"]) == 2
    made = promotions.remeasure("tiny", store=line.store, trainer=whole, workers=0)
    assert made.judged is not None
    assert made.judged.num_trained == 10 - len(begun[0]), "what had ended was kept"
    assert len(promotions.ledger(store=line.store).lines["tiny"]) == 3


def test_other_text_has_no_total(line: Place) -> None:
    more = line.study("c", 0.029, base="ledger:tiny")
    entries = promotions.ledger(store=line.store).lines["tiny"]
    from blueberry.judge.promotion import campaign

    recipe = more.base.with_(**{"evaluate.tokens": 128}).model_dump(mode="json")
    changed = (entries[0], entries[1].model_copy(update={"recipe": recipe}))
    with pytest.raises(LedgerError, match="other text"):
        campaign("tiny", changed)


def _promote(folder: str, results) -> None:
    study = Study.load(Path(folder) / "a.toml", Path(folder) / "store")
    found = promotions.promote(study, store=Path(folder) / "store")
    results.put(found.is_new if isinstance(found, Promotion) else None)


def test_two_at_once_make_one_entry(place: Place) -> None:
    place.run(place.study("a", 0.06))
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    both = [context.Process(target=_promote, args=(str(place.folder), results)) for _ in range(2)]
    for one in both:
        one.start()
    said = sorted(results.get(timeout=60) for _ in both)
    for one in both:
        one.join()
    assert said == [False, True]
    assert len(promotions.ledger(store=place.store).lines["tiny"]) == 1


def test_a_writer_between_reading_and_writing_is_noticed(line: Place) -> None:
    from blueberry.study.store import Store

    with Store.open(line.store) as store:
        rows = store.ledger("tiny")
        assert store.append_to_ledger("tiny", rows[0].body, after=1) is None
        assert store.append_to_ledger("tiny", rows[0].body, after=None) is None
        assert len(store.ledger("tiny")) == 2
        assert store.append_to_ledger("tiny", rows[0].body, after=2) == 3


def test_the_commands(line: Place, monkeypatch, command) -> None:
    monkeypatch.chdir(line.folder)
    store = ["--store", str(line.store)]
    code, out, _ = command("promote", "a.toml", "--to", "new", "--json", *store)
    assert (code, json.loads(out)["promoted"], json.loads(out)["entry"]["line"]) == (0, True, "new")
    code, out, _ = command("promote", "a.toml", *store)
    assert code == 1
    assert all(one.startswith("refused: ") for one in out.splitlines())
    code, out, _ = command("ledger", "--json", *store)
    document = json.loads(out)
    assert (code, document["schema"]) == (0, "blueberry/ledger/1")
    assert [one["line"] for one in document["lines"]] == ["tiny", "new"]
    assert [entry["number"] for entry in document["lines"][0]["entries"]] == [1, 2]
    code, out, _ = command("ledger", "--out", "book", *store)
    assert code == 0
    assert "tiny: the baseline is entry 2" in out
    assert "learning rate 0.06 -> 0.03" in out
    assert json.loads((line.folder / "book" / "ledger.json").read_text()) == document
    assert "learning rate 0.1 -&gt; 0.06" in (line.folder / "book" / "ledger.md").read_text()
    assert (line.folder / "book" / "figures" / "timeline.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = command("ledger", "--rollback", "tiny", *store)
    assert (code, out.splitlines()[0]) == (0, "tiny #4 rolled back: back to entry 1: learning rate 0.03 -> 0.06")
    code, out, err = command("ledger", "--rollback", "tny", *store)
    assert (code, out) == (2, "")
    assert 'did you mean "tiny"?' in err


def test_a_baseline_is_a_recipe_wherever_one_is_named(line: Place, monkeypatch, command) -> None:
    monkeypatch.chdir(line.folder)
    store = ["--store", str(line.store)]
    words = ["train", "ledger:tiny", "train.updates=7", "--dry-run", "--json"]
    code, out, _ = command(*words, *store)
    dry = json.loads(out)["recipe"]
    assert (code, dry["optimizer"]["muon"]["learning_rate"], dry["train"]["updates"]) == (0, 0.03, 7)
    code, out, _ = command("ledger", "--recipe", "tiny", *store)
    Path("written.toml").write_text(out)
    assert code == 0
    assert Recipe.load("written.toml") == api.load_recipe("ledger:tiny", store=line.store)
    words = ["new", "compare", "--base", "ledger:tiny", "-o", "c.toml"]
    assert command(*words, *store)[0] == 0
    study = Study.load("c.toml", line.store)
    assert (study.entry, study.line) == (2, "tiny")


@pytest.mark.parametrize(
    "words",
    [["train", "ledger:tny", "--dry-run"], ["new", "compare", "--base", "ledger:tny"], ["ledger", "--recipe", "tny"]],
)
def test_a_line_that_there_is_not_is_one_line(line: Place, words: list[str], monkeypatch, command) -> None:
    monkeypatch.chdir(line.folder)
    code, _, said = command(*words, "--store", str(line.store))
    assert code == 2
    assert 'did you mean "tiny"?' in said
    assert said.strip().count("\n") == 0
    assert not Path("compare.toml").exists()
