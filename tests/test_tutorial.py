"""docs/tutorial.md: its commands, in its order, on a store of its own, with a trainer that computes in microseconds."""

import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from blueberry import api
from blueberry.__main__ import main
from blueberry.study import synthetic
from blueberry.study.spec import Study
from blueberry.text import data_digest

REPOSITORY = Path(__file__).parent.parent
PAGE = (REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split()
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
(BATCH,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_the_commands_run_in_the_order_of_the_page(tmp_path, monkeypatch, capsys) -> None:
    """A rate of 0.065 is the best that the trainer knows and the batch makes no difference, as on the page."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(REPOSITORY / "studies", "studies")
    Path("batch.toml").write_text(BATCH)
    built_in = api.conduct

    def conduct(study, *, store=None, trainer=None, **more):
        digest = data_digest(study.base.data, Path(".blueberry") / "data")
        trainer = _Named(synthetic.Synthetic(optimum=0.065), digest)
        return built_in(study, store=store, trainer=trainer, **{**more, "workers": 0})

    monkeypatch.setattr(api, "conduct", conduct)
    monkeypatch.setattr("blueberry.promotions.conduct", conduct)
    said = {}
    for words in COMMANDS:
        if words[0] != "blueberry":
            assert all(Path(word).is_file() for word in words[1:])
            continue
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        said[" ".join(words)] = (ended.value.code, capsys.readouterr().out)
    codes = {command: code for command, (code, _) in said.items()}
    assert {command for command, code in codes.items() if code} == {"blueberry promote batch.toml"}
    assert "tutorial #1 promoted: learning rate 0.01 -> 0.065" in said[" ".join(COMMANDS[4])][1]
    assert "3 block a claim" in said["blueberry plan studies/documents/000-before-after-as-written.toml"][1]
    assert "3 done" in said["blueberry plan batch.toml"][1]
    assert said["blueberry promote batch.toml"][1].startswith("refused: ")
    assert tomllib.loads(said["blueberry ledger --recipe tutorial"][1])["optimizer"]["muon"]["learning_rate"] == 0.065


class _Named:
    """A trainer whose runs have the names that `plan` gives them."""

    def __init__(self, trainer: synthetic.Synthetic, digest: str) -> None:
        self.trainer, self.digest = trainer, digest

    def __call__(self, recipes):
        from blueberry.identity import fingerprint

        for recipe in recipes:
            yield self.trainer.result(recipe).model_copy(update={"fingerprint": fingerprint(recipe, self.digest)})


def test_the_page_names_what_there_is() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (REPOSITORY / "docs" / link).is_file(), link
    assert Study.load(REPOSITORY / "studies" / "documents" / "000-before-after-small.toml").seeds.search == 4
