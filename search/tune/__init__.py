"""Hyperparameters of any recipe, by Ray Tune."""
