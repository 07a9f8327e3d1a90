"""Searches for an affine with programs of ANTs and FSL, run through Nipype's interfaces.

Each is a `vxmprep.preparation.align.Search`. The programs see copies of the two brains in a
temporary folder, not in the node's: Nipype puts paths on the command line without quotes, and
the path of a work folder may hold blanks.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nipype.interfaces.base import CommandLine, TraitedSpec

if TYPE_CHECKING:
    import nibabel as nb
    import numpy as np

PACKAGES = {
    "antsRegistration": "ANTs (https://github.com/ANTsX/ANTs)",
    "flirt": "FSL (https://fsl.fmrib.ox.ac.uk)",
}
"""Where the programs come from."""


def ants(fixed: nb.Nifti1Image, moving: nb.Nifti1Image) -> Iterator[np.ndarray]:
    """Search with antsRegistration: first from the header's orientation, then from others.

    References
    ----------
    Avants et al., A reproducible evaluation of ANTs similarity metric performance in brain image
    registration, NeuroImage 54(3) (2011); https://github.com/ANTsX/ANTs
    """
    from nibabel.affines import from_matvec

    from vxmprep.preparation.align import TURNS

    for turn in TURNS:
        yield _ants(fixed, moving, from_matvec(turn))


def flirt(fixed: nb.Nifti1Image, moving: nb.Nifti1Image) -> list[np.ndarray]:
    """Search with FSL's flirt, once: it tries all orientations itself.

    References
    ----------
    Jenkinson et al., Improved optimization for the robust and accurate linear registration and
    motion correction of brain images, NeuroImage 17(2) (2002);
    https://fsl.fmrib.ox.ac.uk/fsl/docs/registration/flirt
    """
    from nipype.interfaces.fsl import FLIRT

    from vxmprep.spatial.fsl import read_flirt
    from vxmprep.spatial.grid import Grid
    from vxmprep.spatial.images import save

    everywhere = [-180, 180]
    with tempfile.TemporaryDirectory() as folder:
        program = FLIRT(
            in_file=str(save(moving, Path(folder) / "moving.nii")),
            reference=str(save(fixed, Path(folder) / "fixed.nii")),
            out_file="moved.nii",
            out_matrix_file="found.mat",
            output_type="NIFTI",
            dof=12,
            cost="corratio",
            searchr_x=everywhere,
            searchr_y=everywhere,
            searchr_z=everywhere,
        )
        found = _run(program, folder).out_matrix_file
        return [read_flirt(found, fixed=Grid.of(fixed), moving=Grid.of(moving))]


def _ants(fixed: nb.Nifti1Image, moving: nb.Nifti1Image, start: np.ndarray) -> np.ndarray:
    """Run antsRegistration; its matrix maps fixed points to moving points."""
    import numpy as np
    from nipype.interfaces.ants import Registration

    from vxmprep.spatial.images import like, save
    from vxmprep.spatial.itk import read_affine, write_affine

    inside = like(np.asanyarray(fixed.dataobj) > 0, fixed)
    with tempfile.TemporaryDirectory() as folder:
        start_file = Path(folder) / "start.txt"
        write_affine(start_file, start)
        program = Registration(
            fixed_image=str(save(fixed, Path(folder) / "fixed.nii")),
            moving_image=str(save(moving, Path(folder) / "moving.nii")),
            # Without it the outline decides, which masks of different makers place differently.
            fixed_image_masks=[str(save(inside, Path(folder) / "inside.nii"))],
            initial_moving_transform=str(start_file),
            transforms=["Affine"],
            transform_parameters=[(0.1,)],
            metric=["MI"],
            radius_or_number_of_bins=[32],
            sampling_strategy=["Regular"],
            sampling_percentage=[0.25],
            use_histogram_matching=False,
            number_of_iterations=[[200, 100, 50]],
            shrink_factors=[[4, 2, 1]],
            smoothing_sigmas=[[2.0, 1.0, 0.0]],
            sigma_units=["vox"],
            # One thread and a seed: otherwise every run gives other digits.
            random_seed=1,
            environ={"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"},
        )
        return read_affine(_run(program, folder).forward_transforms[0])


def _run(program: CommandLine, folder: str) -> TraitedSpec:
    """Run a program in a folder and give its outputs.

    By itself an interface of Nipype's does not look at how its program ended (nodes do), and
    reports a missing output instead of what the program said.

    Raises
    ------
    RuntimeError
        If the program is not there, fails or leaves no result.
    """
    if shutil.which(program.cmd) is None:
        raise RuntimeError(
            f"{program.cmd}: the program is not on the PATH; install {PACKAGES[program.cmd]}, or "
            "choose another method for the affine (greedy comes along)"
        )
    program.terminal_output = "allatonce"
    result = program.run(cwd=folder, ignore_exception=True)
    runtime = result.runtime
    if runtime.returncode == 0 and result.outputs is not None:
        return result.outputs
    said = (runtime.stderr or "").strip().splitlines()[-1:]
    said = said or getattr(runtime, "traceback_args", ("",))[0].splitlines()[:1]
    status = f"failed with exit status {runtime.returncode}"
    raise RuntimeError(": ".join([program.cmd, status, *said]))
