"""What the five documents claim, held against runs of our own: docs/documents.md is made here, from a store."""
