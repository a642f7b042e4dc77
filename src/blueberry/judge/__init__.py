"""From runs to what they support: `judging.weigh(Evidence)` for any numbers, `studies.judge(study, ...)` for a study's.

Nothing is imported here, so that the numbers of `weigh` come without studies and stores.
"""
