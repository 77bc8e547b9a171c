"""Learn the training data itself."""
