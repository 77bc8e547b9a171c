"""Rankers of architectures, the truth that they are judged by, and how scores are made on evaluators."""
