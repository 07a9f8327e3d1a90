"""The settings of a run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_ATLAS = "MNI152NLin2009cAsym"

DEFAULT_ITERATIONS = 100
"""Iterations of the refinement over its levels of 4, 2 and 1 mm: 40, 40 and 20."""

SKULL_STRIP = ("auto", "deepbet", "freesurfer", "derivatives", "synthstrip", "bet", "none")
PROGRAMS = {"synthstrip": "mri_synthstrip", "bet": "bet"}
"""Skull-strips that need a program of somebody else."""


class UsageError(ValueError):
    """Settings that cannot be met; the message is one line for the user."""


@dataclass(frozen=True)
class Settings:
    """What a user asks for in one run; see ``vxmprep --help`` for the meaning of each."""

    bids_dir: Path
    output_dir: Path
    levels: tuple[str, ...] = ("participant",)
    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    derivatives: tuple[Path, ...] = ()
    fs_subjects_dir: Path | None = None
    work_dir: Path = Path("work")
    nprocs: int = 1
    omp_nthreads: int | None = None
    mem_mb: int | None = None
    stop_on_first_crash: bool = False
    atlas: str = DEFAULT_ATLAS
    atlas_name: str | None = None
    atlas_labels: Path | None = None
    skull_strip: str = "auto"
    n4: bool = True
    affine: str = "greedy"
    model: Path | None = None
    refine_iterations: int = DEFAULT_ITERATIONS
    device: str = "auto"
    verbose: int = 0

    def threads(self, scans: int) -> int:
        """Give the threads per scan: the processors shared out when there are few scans."""
        if self.omp_nthreads is not None:
            return self.omp_nthreads
        return max(1, self.nprocs // max(1, min(scans, self.nprocs)))

    def that_matter(self) -> dict:
        """Give the settings that change the result, for sidecars."""
        return {
            "SkullStrip": self.skull_strip,
            "BiasCorrection": "N4" if self.n4 else "none",
            "Affine": self.affine,
            "RefineIterations": self.refine_iterations,
        }


def available_processors() -> int:
    """Give the processors that this process may use."""
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
