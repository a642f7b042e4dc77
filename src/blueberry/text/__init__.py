"""Text to token batches: corpora, tokenizers, splits and the order of training. No torch."""

from blueberry.text.dataset import Dataset, Split, data_digest, load
from blueberry.text.order import EvaluationSet, batch, evaluation_set, passes
from blueberry.text.tokenizer import SEPARATOR, Tokenizer

__all__ = [
    "SEPARATOR",
    "Dataset",
    "EvaluationSet",
    "Split",
    "Tokenizer",
    "batch",
    "data_digest",
    "evaluation_set",
    "load",
    "passes",
]
