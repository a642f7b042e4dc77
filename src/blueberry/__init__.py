"""Blueberry trains small language models and runs the studies that choose their settings."""

__version__ = "0.1.0"
