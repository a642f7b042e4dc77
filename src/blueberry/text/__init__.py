"""Text to token batches: corpora, tokenizers, splits and the order of training. No torch."""

from blueberry.text.dataset import Dataset, Mixture, Split, data_digest, load
from blueberry.text.leak import overlap
from blueberry.text.order import EvaluationSet, batch, evaluation_set, require_a_batch, require_fit
from blueberry.text.tokenizer import SEPARATOR, AnyTokenizer, Tokenizer, read_tokenizer, write_tokenizer

__all__ = [
    "SEPARATOR",
    "AnyTokenizer",
    "Dataset",
    "EvaluationSet",
    "Mixture",
    "Split",
    "Tokenizer",
    "batch",
    "data_digest",
    "evaluation_set",
    "load",
    "overlap",
    "read_tokenizer",
    "require_a_batch",
    "require_fit",
    "write_tokenizer",
]
