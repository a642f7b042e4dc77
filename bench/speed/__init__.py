"""The speed of training, as `blueberry bench` measures it, for docs/speed.md."""
