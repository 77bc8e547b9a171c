"""Rankers of architectures, scoring on evaluators, and the ground truth that rankers are compared with."""
