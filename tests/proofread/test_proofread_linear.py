"""Reports as nobody writes them: the time to read one grows with its length, and its length is bounded."""

import time

import pytest

from blueberry.proofread import Document, examine

HEAD = "# R\n\n- Validation loss: 3.41\n\n"
PATTERNS = {
    "blanks": lambda n: f"{HEAD}x{' ' * n}y\n",
    "a heading of blanks": lambda n: f"{HEAD}# {' ' * n}y\n",
    "digits": lambda n: f"{HEAD}loss: {'9' * n}\n",
    "digits and commas": lambda n: HEAD + "9," * (n // 2),
    "headings with a loss": lambda n: "".join(f"# H{i}\n\nValidation loss: 3.{i:04d}\n\n" for i in range(n // 30)),
    "headings with a rate": lambda n: "".join(f"### 0.{i:05d}\n\n- Val loss: 3.{i:04d}\n\n" for i in range(n // 30)),
    "arrows": lambda n: HEAD + "loss 3→" * (n // 7),
    "brackets": lambda n: HEAD + "[a](" * (n // 4),
    "marks": lambda n: HEAD + "**a" * (n // 3),
    "a wrapped paragraph": lambda n: HEAD + "the loss went from\n3.4 to 3.3, and\n" * (n // 36),
    "bars": lambda n: "|" * n + "\n" + "|-" * n + "\n" + "|" * n,
    "changes": lambda n: HEAD + "The loss went from 3.4 to 3.3 (-2.9%), 3% better than a (3.4).\n" * (n // 64),
    "comparisons": lambda n: HEAD + "".join(f"10% better than a (3.{i}).\n" for i in range(n // 27)),
    "a list of seeds": lambda n: HEAD + "seeds 1" + ", 2" * (n // 3),
    "a table": lambda n: (
        "| lr | val loss |\n|---|---|\n" + "".join(f"| 0.{i:05d} | 3.{i:04d} |\n" for i in range(1, n // 20))
    ),
}


def seconds(text):
    began = time.process_time()
    examine([Document.read("r.md", text)])
    return time.process_time() - began


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=list(PATTERNS))
def test_eight_times_the_length_takes_no_more_than_a_few_times_eight(pattern):
    seconds(pattern(500))
    short = min(seconds(pattern(2_000)) for _ in range(3))
    assert seconds(pattern(16_000)) < 30 * max(short, 0.003)


def test_a_long_report_is_read_as_far_as_a_report_goes():
    text = HEAD + "a line of words that says nothing at all\n" * 50_000 + "- Validation loss: 3.4 → 3.3 (-50%)\n"
    audits, notes = examine([Document.read("r.md", text)])
    assert audits == ()
    assert notes == ("r.md: only its first 150,000 characters and 4,000 lines are read",)
