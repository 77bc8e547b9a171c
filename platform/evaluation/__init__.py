"""How networks and distilled sets are judged: accuracy, baselines, DD-Ranking's scores, the table of an assessment."""

from raystill.platform.evaluation.accuracy import evaluate, predicted
from raystill.platform.evaluation.assessment import assess

__all__ = ["assess", "evaluate", "predicted"]
