"""Initialisations of learners, theta0 ~ p(theta0), and pools of pre-trained networks."""
