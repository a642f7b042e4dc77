"""Numbers in, statements out: small pure functions over arrays, numpy and scipy only.

A table of values has shape (K, n): K arms, n seeds, lower is better. NaN is a run that is missing, infinity a
run that diverged. Nothing here knows what an arm or a seed is.
"""
