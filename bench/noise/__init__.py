"""Real noise: one small recipe, five learning rates, thirty seeds, three horizons."""
