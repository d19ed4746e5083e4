"""Training: losses, metrics, optimizers, the loop and the run around it."""
