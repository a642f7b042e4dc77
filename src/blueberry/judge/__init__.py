"""From runs to what they support: `weigh.weigh(Evidence)` for any numbers, `parts.judge(study, ...)` for a study's.

Nothing is imported here, so that the numbers of `weigh` come without studies and stores.
"""
