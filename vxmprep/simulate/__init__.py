"""Simulated subjects: an atlas with drawn contrast, pose, shape, bias field and noise.

A subject is the atlas seen through a known map, so that registration can be judged against the
truth. World coordinates are RAS+ millimetres.
"""

from vxmprep.simulate.anatomy import Anatomy, draw_contrast, read_anatomy
from vxmprep.simulate.dataset import write_dataset, write_subject
from vxmprep.simulate.deformation import (
    Deformation,
    SimulationError,
    draw_deformation,
    smallest_jacobian,
)
from vxmprep.simulate.subject import Subject, simulate_subject

__all__ = [
    "Anatomy",
    "Deformation",
    "SimulationError",
    "Subject",
    "draw_contrast",
    "draw_deformation",
    "read_anatomy",
    "simulate_subject",
    "smallest_jacobian",
    "write_dataset",
    "write_subject",
]
