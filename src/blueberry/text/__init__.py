"""Text to token batches: corpora, tokenizers, splits and the order of training. No torch."""

from blueberry.text.dataset import Dataset, Mixture, Split, data_digest, load
from blueberry.text.leak import Overlap, overlap
from blueberry.text.order import EvaluationSet, batch, evaluation_set, passes, require_a_batch, require_fit
from blueberry.text.tokenizer import SEPARATOR, AnyTokenizer, Tokenizer, TokenizerFile, read_tokenizer, write_tokenizer

__all__ = [
    "SEPARATOR",
    "AnyTokenizer",
    "Dataset",
    "EvaluationSet",
    "Mixture",
    "Overlap",
    "Split",
    "Tokenizer",
    "TokenizerFile",
    "batch",
    "data_digest",
    "evaluation_set",
    "load",
    "overlap",
    "passes",
    "read_tokenizer",
    "require_a_batch",
    "require_fit",
    "write_tokenizer",
]
