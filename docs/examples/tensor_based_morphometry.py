"""Tensor-based morphometry on what vxmprep wrote: where brains differ in size, and with what.

    vxmprep BIDS_DIR DERIVATIVES participant
    python tensor_based_morphometry.py DERIVATIVES TABLE COLUMN OUT

TABLE is tab-separated with participant_id and the numbers in COLUMN, such as age; all its other
columns of numbers are confounds, and who lacks one of them is left out. OUT gets the z map, the
same thresholded, and a figure of that.

Each Jacobian map tells by which factor a participant is larger than the atlas at each place,
overall size left out (the affine is not in it). Its logarithm, smoothed, is modelled.
"""

import argparse
from pathlib import Path

import matplotlib
import nibabel as nb
import numpy as np
import pandas as pd

matplotlib.use("Agg")

from nilearn.glm import threshold_stats_img
from nilearn.glm.second_level import SecondLevelModel
from nilearn.image import smooth_img
from nilearn.plotting import plot_stat_map


def find_maps(derivatives: Path) -> dict[str, Path]:
    """Give the Jacobian map of every participant; of several scans the first."""
    found: dict[str, Path] = {}
    for path in sorted(derivatives.glob("sub-*/**/anat/*_desc-jacobian_map.nii.gz")):
        found.setdefault(path.name.split("_")[0], path)
    return found


def log_jacobian(path: Path, fwhm: float) -> nb.Nifti1Image:
    """Give the smoothed logarithm of a map: 0 is the atlas's size, and outside its brain."""
    image = nb.load(path)
    values = image.get_fdata(dtype=np.float32)
    # folds have no logarithm; the map is 0 outside the brain
    logarithm = np.where(values > 0, np.log(np.maximum(values, 0.05)), 0)
    return smooth_img(nb.Nifti1Image(logarithm, image.affine), fwhm)


def brain_of(maps: list[Path]) -> nb.Nifti1Image:
    """Give where all maps hold something, which is the atlas's brain mask but for folds."""
    images = [nb.load(path) for path in maps]
    inside = np.all([np.asarray(image.dataobj) > 0 for image in images], axis=0)
    return nb.Nifti1Image(inside.astype(np.uint8), images[0].affine)


def main(argv: list[str] | None = None) -> None:
    """Fit the model and draw its result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("derivatives", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("column")
    parser.add_argument("out", type=Path)
    parser.add_argument("--fwhm", type=float, default=8.0, help="smoothing, mm")
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--control", choices=("fdr", "fpr", "bonferroni"), default="fdr")
    given = parser.parse_args(argv)

    table = pd.read_csv(given.table, sep="\t", index_col="participant_id")
    table = table.dropna(axis="columns", how="all")  # of a column without a number nobody is left
    maps = find_maps(given.derivatives)
    design = table.loc[[label for label in table.index if label in maps]]
    design = design.select_dtypes("number").dropna()
    both = list(design.index)
    of = f"{len(maps)} maps, {len(table)} rows"
    print(f"{len(both)} participants have a map and all numbers; {of}")
    if given.column not in design:
        parser.error(f"{given.table}: {given.column} is no column of numbers; give one that is")
    if len(both) < design.shape[1] + 2:
        parser.error(f"{len(both)} participants are too few for {design.shape[1]} columns")
    design = (design - design.mean()).assign(intercept=1.0)
    images = [log_jacobian(maps[label], given.fwhm) for label in both]
    model = SecondLevelModel(mask_img=brain_of([maps[label] for label in both]))
    model.fit(images, design_matrix=design.reset_index(drop=True))
    z_map = model.compute_contrast(given.column, output_type="z_score")
    clusters, threshold = threshold_stats_img(
        z_map, alpha=given.alpha, height_control=given.control, cluster_threshold=20
    )

    given.out.mkdir(parents=True, exist_ok=True)
    z_map.to_filename(given.out / "z_map.nii.gz")
    clusters.to_filename(given.out / "z_map_thresholded.nii.gz")
    plot_stat_map(
        clusters,
        bg_img=nb.load(str(maps[both[0]]).replace("desc-jacobian_map", "desc-preproc_T1w")),
        threshold=min(threshold, float(np.abs(z_map.get_fdata()).max())),
        title=f"{given.column}: z beyond {threshold:.2f} ({given.control} {given.alpha:g})",
        display_mode="z",
        cut_coords=7,
        output_file=given.out / "z_map.png",
    )
    survivors = int(np.count_nonzero(clusters.get_fdata()))
    if survivors:
        print(f"{survivors} voxels beyond z = {threshold:.2f}; see {given.out}")
    else:
        print(f"no voxel passes {given.control} {given.alpha:g}; see {given.out}")


if __name__ == "__main__":
    main()
