"""Ray Tune on top: searches over hyperparameters and architectures."""
