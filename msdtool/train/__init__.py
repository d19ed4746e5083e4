"""Training: losses, optimizers, the loop and the run around it."""
