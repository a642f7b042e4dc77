"""Whether held-out text was trained on, word for word.

Clean text shares much: of held-out runs of 13 tokens 3 to 33% occur in training too (licences, imports, idioms), so
a limit of 1% on those accuses everybody. Whole windows of 256 tokens are shared by nature in 0 to 0.8% of cases, and
a leak of a share of the documents shares that share of windows (docs/doctor.md has the measurement).
"""

from blueberry.judge.doctor.findings import block
from blueberry.judge.judgement import Audit
from blueberry.text import Mixture, Split, overlap

WINDOW_TOKENS = 256
MOST_SHARED_WINDOWS = 0.02


def leak(train: Split | Mixture, held_out: Split | Mixture, name: str) -> list[Audit]:
    """Compare windows of held-out text, whatever windows a recipe trains on, with all of training.

    `name`: of the held-out set. Raises: DataError if a split is shorter than a window.
    """
    shared = overlap(train, held_out, context_tokens=WINDOW_TOKENS).windows
    if shared <= MOST_SHARED_WINDOWS:
        return []
    message = f"{shared:.1%} of the {name} windows of {WINDOW_TOKENS} tokens are in the training text word for word"
    return [block("leak", message, "split documents, not windows, and leave out documents that stand twice")]
