"""How fast this machine trains, against a plain trainer and against what its products could do at most."""
