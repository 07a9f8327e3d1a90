"""Nipype nodes over the package's functions: paths in, paths out, no BIDS and no settings.

``SkullStrip``, ``BiasCorrect``, ``AffineAlign`` and ``Conform`` bring a scan to the network's
grid, ``Register`` finds the deformation, ``ApplyTransform``, ``JacobianMap`` and ``Overlap`` use
and judge it. ``PrepareAtlas`` gives the atlas as they take it, ``TrainVoxelMorph`` a network. The
others serve `vxmprep.workflows`.
"""

from vxmprep.interfaces.atlas import PrepareAtlas
from vxmprep.interfaces.derivatives import SaveScan
from vxmprep.interfaces.evaluation import EvaluateRegistration, JacobianMap
from vxmprep.interfaces.overlap import Overlap
from vxmprep.interfaces.preparation import (
    AffineAlign,
    BiasCorrect,
    Conform,
    SkullStrip,
    SynthStrip,
)
from vxmprep.interfaces.registration import Register
from vxmprep.interfaces.reports import DrawFigures
from vxmprep.interfaces.resampling import ApplyTransform, CarryLabels
from vxmprep.interfaces.training import TrainVoxelMorph

__all__ = [
    "AffineAlign",
    "ApplyTransform",
    "BiasCorrect",
    "CarryLabels",
    "Conform",
    "DrawFigures",
    "EvaluateRegistration",
    "JacobianMap",
    "Overlap",
    "PrepareAtlas",
    "Register",
    "SaveScan",
    "SkullStrip",
    "SynthStrip",
    "TrainVoxelMorph",
]
