"""Greedy's deformable registration of the same scans from the same affines, in the same layout.

Reads the derivatives of a finished `vxmprep` run and writes a folder in which whatever scores
those derivatives can score greedy: the composite transform and the warped scan. Scans that are
there already are skipped.

    python benchmarks/greedy.py DERIVATIVES OUTPUT [--smoothing "1.732vox 0.7071vox"]
"""

import argparse
import json
import resource
import shutil
import time
from pathlib import Path

import nibabel as nb
import numpy as np
import SimpleITK as sitk
from picsl_greedy import Greedy3D

from vxmprep.atlas import find_atlas, prepare_atlas
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import load, save
from vxmprep.spatial.itk import (
    LPS,
    from_sitk,
    read_affine,
    read_transform,
    to_sitk,
    write_composite,
)
from vxmprep.spatial.resample import resample
from vxmprep.spatial.silence import silenced


def main() -> None:
    """Register every scan of a derivatives folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("derivatives", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--smoothing", default="1.732vox 0.7071vox", help="greedy's -s")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    prepared = prepare_atlas(find_atlas())
    pattern = "sub-*/**/anat/*_desc-affine_xfm.txt"
    for affine_file in sorted(options.derivatives.glob(pattern)):
        folder = options.output / affine_file.parent.relative_to(options.derivatives)
        register(affine_file, folder, prepared.brain, options)


def register(affine_file: Path, folder: Path, atlas: nb.Nifti1Image, options) -> None:
    """Register one scan and write its files."""
    name = affine_file.name.replace("_desc-affine_xfm.txt", "_xfm.h5")
    stem, space = name.split("_from-T1w_to-")[0], name.split("_to-")[1].split("_")[0]
    source = affine_file.parent
    forward = folder / name
    if forward.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    scan = load(source / f"{stem}_desc-preproc_T1w.nii.gz")
    mask = load(source / f"{stem}_desc-brain_mask.nii.gz")
    brain = nb.Nifti1Image(np.where(mask.get_fdata() > 0, scan.get_fdata(), 0), scan.affine)
    affine = read_affine(affine_file)
    matrix_file = folder / "affine.mat"
    np.savetxt(matrix_file, affine)
    greedy = Greedy3D()
    began, used = time.perf_counter(), cpu_seconds()
    with silenced():
        greedy.execute(
            f"-i fixed moving -it {matrix_file} -m NCC 2x2x2 -n 100x50x10 -s {options.smoothing} "
            f"-threads {options.threads} -o warp -V 0",
            fixed=to_sitk(atlas, np.float32),
            moving=to_sitk(brain, np.float32),
            warp=None,
        )
    spent = {"seconds": time.perf_counter() - began, "cpu_seconds": cpu_seconds() - used}
    matrix_file.unlink()
    vectors = sitk.GetArrayFromImage(greedy["warp"]).transpose(2, 1, 0, 3) * np.diag(LPS)[:3]
    grid = Grid.of(from_sitk(sitk.VectorIndexSelectionCast(greedy["warp"], 0)))
    write_composite(forward, affine=affine, displacement=vectors, grid=grid, field_acts_first=True)
    inverse = f"{stem}_from-{space}_to-T1w_mode-image_xfm.h5"
    shutil.copy(source / inverse, folder / inverse)
    shutil.copy(source / f"{stem}_desc-preproc_T1w.nii.gz", folder)
    warped = resample(scan, Grid.of(atlas), read_transform(forward))
    save(warped, folder / f"{stem}_space-{space}_desc-preproc_T1w.nii.gz", steps=4095)
    (folder / f"{stem}_seconds.json").write_text(json.dumps(spent), encoding="utf-8")
    print(stem, {key: round(value, 1) for key, value in spent.items()}, flush=True)


def cpu_seconds() -> float:
    """Give the processor time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
