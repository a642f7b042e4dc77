"""Behaviour frozen as files: what planted studies, small tables and small reports are answered today.

`python -m tests.golden` writes the files beside this one; test_golden.py compares. A step that changes one of them changes
what users read: regenerate, look at the difference, and argue for it in the commit.
"""
