"""docs/tutorial.md: its commands, in its order, on a store of its own, with a trainer that computes in microseconds."""

import re
import shutil
import tomllib
from pathlib import Path

from blueberry.study.spec import Study

REPOSITORY = Path(__file__).parent.parent
PAGE = (REPOSITORY / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split()
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
(BATCH,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_the_commands_run_in_the_order_of_the_page(command, pretended, prepared) -> None:
    """The trainer says of rate and batch what the page says. Text that other tests have prepared is not prepared again."""
    Path(".blueberry").mkdir()
    Path(".blueberry/data").symlink_to(prepared / "data")
    shutil.copytree(REPOSITORY / "studies", "studies")
    Path("batch.toml").write_text(BATCH)
    said = {}
    for words in COMMANDS:
        if words[0] != "blueberry":
            assert all(Path(word).is_file() for word in words[1:])
            continue
        said[" ".join(words)] = command(*words[1:])
    assert {line for line, answer in said.items() if answer.code} == {"blueberry promote batch.toml"}
    assert "tutorial #1 promoted: learning rate 0.01 -> 0.065" in said[" ".join(COMMANDS[4])].out
    assert "3 block a claim" in said["blueberry plan studies/documents/000-before-after-as-written.toml"].out
    assert "3 done" in said["blueberry plan batch.toml"].out
    assert said["blueberry promote batch.toml"].out.startswith("refused: ")
    assert tomllib.loads(said["blueberry ledger --recipe tutorial"].out)["optimizer"]["muon"]["learning_rate"] == 0.065


def test_the_page_names_what_there_is() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (REPOSITORY / "docs" / link).is_file(), link
    assert Study.load(REPOSITORY / "studies" / "documents" / "000-before-after-small.toml").seeds.search == 4
