"""How networks and distilled sets are judged: accuracy, baselines, DD-Ranking's scores."""
