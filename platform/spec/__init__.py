"""Typed, frozen experiment specs: a file for each section, and the whole spec of a command.

A spec sets everything about a run. Values left to `auto` are resolved once and written back, so that the saved spec
repeats the run. Unknown keys are errors that name the nearest valid key.
"""

from raystill.platform.spec.assess import AssessSpec, ValidationSpec
from raystill.platform.spec.data import DataSpec
from raystill.platform.spec.experiment import DistillSpec, PretrainSpec
from raystill.platform.spec.initialisation import DonorSpec, InitialisationSpec
from raystill.platform.spec.inner import InnerSpec
from raystill.platform.spec.learner import Key, LearnerSpec
from raystill.platform.spec.meta import MetaSpec
from raystill.platform.spec.outer import OuterSpec
from raystill.platform.spec.run import RunSpec, TrackingSpec
from raystill.platform.spec.synthesizer import SynthesizerSpec

__all__ = [
    "AssessSpec",
    "DataSpec",
    "DistillSpec",
    "DonorSpec",
    "InitialisationSpec",
    "InnerSpec",
    "Key",
    "LearnerSpec",
    "MetaSpec",
    "OuterSpec",
    "PretrainSpec",
    "RunSpec",
    "SynthesizerSpec",
    "TrackingSpec",
    "ValidationSpec",
]
