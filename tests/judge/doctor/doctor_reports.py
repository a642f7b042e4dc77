"""A small honest report, and the same with one defect each: what to change, and which audit must see it."""

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

DEFECTS = [
    ("perplexity", "43.86", "63.86", "arithmetic", "block"),
    ("mean", "**Mean loss**: 3.836", "**Mean loss**: 3.936", "arithmetic", "block"),
    ("sd", "3.836 ± 0.057", "3.836 ± 0.157", "arithmetic", "block"),
    ("lowest", "**Lowest loss**: 3.781", "**Lowest loss**: 3.681", "arithmetic", "block"),
    ("total time", "4.1 minutes", "4.1 hours", "arithmetic", "block"),
    ("percentage of a line", "33.1% (+6.1%)", "33.1% (+16.1%)", "arithmetic", "block"),
    ("percentage of a table", "| 3.781 | -3.3% |", "| 3.781 | -5.3% |", "arithmetic", "block"),
    ("factor", "-3.3%)\n- All", "2x)\n- All", "arithmetic", "block"),
    ("over a baseline", "- All runs", "- Peak accuracy: 33.1% (50% improvement over baseline)\n- All runs", "arithmetic", "block"),
    ("decades", "- All runs", "- The range spans 2 orders of magnitude (0.01 to 0.08)\n- All runs", "arithmetic", "block"),
    ("threshold", "**Critical threshold**: 0.05", "**Critical threshold**: 0.015", "arithmetic", "warn"),
    (
        "two totals",
        "- All runs",
        "- A 12% total accuracy improvement\n- With 40% total accuracy improvement\n- All runs",
        "arithmetic",
        "block",
    ),
    ("edge", "| 0.08 | 3.845 |", "| 0.08 | 3.745 |", "edge", "block"),
    ("too good", TABLE_ROW, "| 0.04 | 0.015 | 95.0% | 1.015 | 5 | 2000 | 61.0 |", "too-good", "block"),
    ("future", TABLE_ROW, "| 0.04 | 0.015 | 99.7% | 1.015 | 5 | 2000 | 61.0 |", "future", "block"),
    (
        "leak, by the losses",
        "## Choice",
        "## Curves\n\n- Training loss: 0.420\n- Validation loss: 0.380\n\n## Choice",
        "leak",
        "block",
    ),
    (
        "leak, by the splitting",
        "## Choice",
        "Windows are taken with stride 1.\nThe windows are split at random.\n\n## Choice",
        "leak",
        "block",
    ),
    ("diverged", "| 0.08 | 3.845 | 32.0% | 46.76 |", "| 0.08 | 8.845 | 32.0% | 6940 |", "diverged", "block"),
    ("selection", ", test loss 3.790", "", "selection", "block"),
    ("curse", "was run again on fresh seeds: 3.784, test loss 3.790", "has test loss 3.790", "curse", "warn"),
    ("null", "The two best are equivalent: the 90% interval [-0.004, 0.003] lies within ±0.005.", "There is no difference.", "null", "block"),
    ("budget, by what changed", "## Choice", "- gradient_accumulation_steps: 4 → 2\n\n## Choice", "budget", "block"),
    ("budget, by the table", "| 0.08 | 3.845 | 32.0% | 46.76 | 5 | 2000 |", "| 0.08 | 3.845 | 32.0% | 46.76 | 5 | 4000 |", "budget", "block"),
    ("schedule", "- All runs", "- Warmup: 0.1% → 0.2%\n- Runs are trained for 2,000 updates each.\n- All runs", "schedule", "block"),
    ("transfer", "Use 0.04 for runs", "Ready for production. Use 0.04 for runs", "transfer", "warn"),
    ("horizon", "Use 0.04 for runs of 2,000 updates.", "Use 0.04 for all extended training runs.", "horizon", "warn"),
    ("early stop", "- All runs", "- Arms are compared at their best checkpoint, then by final loss\n- All runs", "early-stop", "warn"),
    ("passes", "Vocabulary: 4,096", "Epochs: 4. Vocabulary: 4,096", "passes", "warn"),
    ("drift within", "## Choice", "### LR 0.02\n\n- Validation loss: 3.605\n\n## Choice", "drift", "block"),
    (
        "drift between stages",
        "## Choice",
        "## Phase 1\n\n- Validation loss: 4.100 → 3.912 (-4.6%)\n\n## Phase 2\n\n"
        "- Validation loss: 3.950 → 3.781 (-4.3%)\n\n## Choice",
        "drift",
        "block",
    ),
    ("stack, in words", "## Choice", "The changes together exceed the sum of their parts.\n\n## Choice", "stack", "block"),
    (
        "trivial",
        "| 0.01 | 3.912 | 31.2% | 50.00 |",
        "| 0.005 | 6.100 | 1.57% | 445.9 | 5 | 2000 | 61.0 |\n| 0.01 | 5.912 | 1.57% | 369.4 |",
        "trivial",
        "warn",
    ),
]  # fmt: skip

STAGES = """# How far we came

Original, then each stage{together}; 5 seeds each; test loss 3.79.

| Metric | Original | After A | After B | Total improvement |
|---|---|---|---|---|
| Validation Loss | 4.100 | 3.912 | 3.781 | 7.8% |
"""
