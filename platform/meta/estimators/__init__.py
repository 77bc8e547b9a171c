"""Estimators: how the meta-gradient is computed.

An estimator is a function (bench, steps, addresses) -> one `MetaGradient` for each address, with settings behind these
arguments where it has any. The steps have no graph; the caller carries the cotangents on to the meta-parameters.
"""

from __future__ import annotations

from raystill.platform import registry
from raystill.platform.meta.estimators.bench import Bench, Estimator, Problem, real
from raystill.platform.meta.estimators.unroll import unroll
from raystill.platform.spec import MetaSpec

__all__ = ["ESTIMATORS", "Bench", "Estimator", "Problem", "estimator", "real", "unroll"]

ESTIMATORS: dict[str, Estimator] = {"unroll": unroll}


def estimator(spec: MetaSpec, plugins: registry.Plugins | None = None) -> Estimator:
    """The estimator that `meta.estimator` names, with its settings.

    Raises:
        ValueError: an unknown name or setting.
    """
    return registry.bound("estimators", spec.estimator, ESTIMATORS, plugins, "meta.estimator", own=3)
