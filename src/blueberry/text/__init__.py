"""Text to token batches: corpora, tokenizers, splits and the order of training. No torch."""
