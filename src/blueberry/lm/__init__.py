"""Recipe to run result: the model, its optimizers and the training loop. Torch lives here and nowhere else."""
