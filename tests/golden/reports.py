"""Small reports for the doctor: an honest one, and for each family of audits the same with one defect."""

CLEAN = """# Which learning rate for the small mixture of experts?

Every arm ran for 2,000 updates on 5 seeds, arms paired by seed; the training loss began at 8.32.
Vocabulary: 4,096 entries. Context: 256 tokens.

## Results

| learning rate | val loss | val accuracy | perplexity | seeds | updates | time (s) |
|---|---|---|---|---|---|---|
| 0.01 | 3.912 | 31.2% | 50.00 | 5 | 2000 | 61.2 |
| 0.02 | 3.805 | 32.9% | 44.93 | 5 | 2000 | 60.8 |
| 0.04 | 3.781 | 33.1% | 43.86 | 5 | 2000 | 61.0 |
| 0.08 | 3.845 | 32.0% | 46.76 | 5 | 2000 | 61.3 |

- **Mean loss**: 3.836 ± 0.057
- **Lowest loss**: 3.781
- **Total training time**: 4.1 minutes
- **Critical threshold**: 0.05 (above this, training becomes unstable)
- Accuracy: 31.2% → 33.1% (+6.1%)
- Validation loss: 3.912 → 3.781 (-3.3%)
- All runs completed successfully (20/20).

The best rate, 0.04, was run again on fresh seeds: 3.784, test loss 3.790.

## Choice

| Metric | Baseline | Chosen | Improvement |
|---|---|---|---|
| Validation Loss | 3.912 | 3.781 | -3.3% |
| Validation Accuracy | 31.2% | 33.1% | +6.1% |

The two best are equivalent: the 90% interval [-0.004, 0.003] lies within ±0.005.
Use 0.04 for runs of 2,000 updates.

## Limitations

Production and larger models were not tried; longer runs may want a smaller rate.
"""


TABLE_ROW = "| 0.04 | 3.781 | 33.1% | 43.86 | 5 | 2000 | 61.0 |"

_CHANGED: dict[str, tuple[str, str]] = {
    "perplexity": ("43.86", "63.86"),
    "mean": ("**Mean loss**: 3.836", "**Mean loss**: 3.936"),
    "sd": ("3.836 ± 0.057", "3.836 ± 0.157"),
    "lowest": ("**Lowest loss**: 3.781", "**Lowest loss**: 3.681"),
    "total time": ("4.1 minutes", "4.1 hours"),
    "percentage of a line": ("33.1% (+6.1%)", "33.1% (+16.1%)"),
    "percentage of a table": ("| 3.781 | -3.3% |", "| 3.781 | -5.3% |"),
    "factor": ("-3.3%)\n- All", "2x)\n- All"),
    "over a baseline": ("- All runs", "- Peak accuracy: 33.1% (50% improvement over baseline)\n- All runs"),
    "decades": ("- All runs", "- The range spans 2 orders of magnitude (0.01 to 0.08)\n- All runs"),
    "threshold": ("**Critical threshold**: 0.05", "**Critical threshold**: 0.015"),
    "two totals": (
        "- All runs",
        "- A 12% total accuracy improvement\n- With 40% total accuracy improvement\n- All runs",
    ),
    "edge": ("| 0.08 | 3.845 |", "| 0.08 | 3.745 |"),
    "too good": (TABLE_ROW, "| 0.04 | 0.015 | 95.0% | 1.015 | 5 | 2000 | 61.0 |"),
    "future": (TABLE_ROW, "| 0.04 | 0.015 | 99.7% | 1.015 | 5 | 2000 | 61.0 |"),
    "leak, by the losses": ("## Choice", "## Curves\n\n- Training loss: 0.420\n- Validation loss: 0.380\n\n## Choice"),
    "leak, by the splitting": (
        "## Choice",
        "Windows are taken with stride 1.\nThe windows are split at random.\n\n## Choice",
    ),
    "diverged": ("| 0.08 | 3.845 | 32.0% | 46.76 |", "| 0.08 | 8.845 | 32.0% | 6940 |"),
    "selection": (", test loss 3.790", "; the test set was not looked at"),
    "curse": ("was run again on fresh seeds: 3.784, test loss 3.790", "has test loss 3.790"),
    "null": (
        "The two best are equivalent: the 90% interval [-0.004, 0.003] lies within ±0.005.",
        "There is no difference.",
    ),
    "budget, by the table": (
        "| 0.08 | 3.845 | 32.0% | 46.76 | 5 | 2000 |",
        "| 0.08 | 3.845 | 32.0% | 46.76 | 5 | 4000 |",
    ),
    "transfer": ("Use 0.04 for runs", "Ready for production. Use 0.04 for runs"),
    "horizon": ("Use 0.04 for runs of 2,000 updates.", "Use 0.04 for all extended training runs."),
    "early stop": ("- All runs", "- Arms are compared at their best checkpoint, then by final loss\n- All runs"),
    "passes": ("Vocabulary: 4,096", "Epochs: 4. Vocabulary: 4,096"),
    "drift within": ("## Choice", "### LR 0.02\n\n- Validation loss: 3.605\n\n## Choice"),
    "stack, in words": ("## Choice", "The changes together exceed the sum of their parts.\n\n## Choice"),
    "trivial": (
        "| 0.01 | 3.912 | 31.2% | 50.00 |",
        "| 0.005 | 6.100 | 1.57% | 445.9 | 5 | 2000 | 61.0 |\n| 0.01 | 5.912 | 1.57% | 369.4 |",
    ),
}
"""What is wrong, what stood there, and what stands there instead."""


REPORTS: dict[str, tuple[str, ...]] = {
    "honest": (CLEAN,),
    **{name: (CLEAN.replace(given, planted),) for name, (given, planted) in _CHANGED.items()},
    "drift between reports": (
        CLEAN,
        CLEAN.replace("| 0.02 | 3.805 | 32.9% | 44.93 |", "| 0.02 | 4.405 | 25.2% | 81.86 |"),
    ),
}
"""Reports that are given to the doctor together, under a name."""
