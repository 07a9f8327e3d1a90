"""Nipype nodes over the package's functions: paths in, paths out."""

from vxmprep.interfaces.atlas import PrepareAtlas
from vxmprep.interfaces.derivatives import SaveScan
from vxmprep.interfaces.evaluation import EvaluateRegistration, JacobianMap
from vxmprep.interfaces.preparation import (
    AffineAlign,
    BiasCorrect,
    Conform,
    SkullStrip,
    SynthStrip,
)
from vxmprep.interfaces.registration import Register
from vxmprep.interfaces.resampling import ApplyTransform, CarryLabels
from vxmprep.interfaces.training import TrainVoxelMorph

__all__ = [
    "AffineAlign",
    "ApplyTransform",
    "BiasCorrect",
    "CarryLabels",
    "Conform",
    "EvaluateRegistration",
    "JacobianMap",
    "PrepareAtlas",
    "Register",
    "SaveScan",
    "SkullStrip",
    "SynthStrip",
    "TrainVoxelMorph",
]
