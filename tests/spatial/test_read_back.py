"""Transforms of FreeSurfer, FSL and X5 are read as they were meant."""

import gzip
import struct
from functools import partial
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from vxmprep.cli.chain import chain_of
from vxmprep.cli.convert import main
from vxmprep.spatial import freesurfer, fsl
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import as_itk_affine, read_affine
from vxmprep.spatial.transform import Field, Transform, read_itk
from vxmprep.spatial.x5 import read_x5, write_x5

TURN = Rotation.from_euler("xyz", [8, -14, 21], degrees=True).as_matrix()
AFFINE = from_matvec(TURN @ np.diag([1.1, 0.95, 1.05]), [3.0, -2.0, 4.0])
FIXED = Grid((14, 15, 12), from_matvec(TURN @ np.diag([2.0, -2.5, 2.0]), [-14.0, 20.0, -12.0]))
MOVING = Grid((16, 14, 18), from_matvec(TURN.T @ np.diag([-2.0, 2.0, 1.5]), [15.0, -13.0, -12.0]))
AT = np.argwhere(np.ones(FIXED.shape))
POINTS = FIXED.world(AT)


@pytest.fixture(scope="module")
def chain() -> Transform:
    waves = Grid((9, 9, 9), from_matvec(np.eye(3) * 6, [-24.0] * 3))
    field = np.random.default_rng(5).normal(size=(*waves.shape, 3)).astype(np.float32)
    return Transform((Field(field, waves), AFFINE))


def change(path: Path, *, vectors: np.ndarray | None = None, kind: int = 3, spacing: int = 1):
    """Put other vectors into a warp, and say what they are."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    if vectors is not None:
        data = np.ravel(vectors.reshape(*FIXED.shape, 3), order="F").astype(">f4").tobytes()
        content[284 : 284 + len(data)] = data
    content[-12:-4] = struct.pack(">ii", kind, spacing)
    path.write_bytes(gzip.compress(bytes(content)))


def test_our_own_warp_comes_back(chain, tmp_path):
    freesurfer.write_warp(tmp_path / "w.mgz", chain, fixed=FIXED, moving=MOVING)
    read = freesurfer.read_warp(tmp_path / "w.mgz")
    np.testing.assert_allclose(read(POINTS), chain(POINTS), atol=1e-4)


@pytest.mark.parametrize(("kind", "form"), [(0, "abs-crs"), (1, "disp-crs"), (2, "abs-ras")])
def test_the_other_formats_of_warps_mean_the_same_points(kind, form, chain, tmp_path):
    there = chain(POINTS)
    source = nb.affines.apply_affine(np.linalg.inv(MOVING.affine), there)
    vectors = {"abs-crs": source, "disp-crs": source - AT, "abs-ras": there}[form]
    freesurfer.write_warp(tmp_path / "w.mgz", chain, fixed=FIXED, moving=MOVING)
    change(tmp_path / "w.mgz", vectors=vectors, kind=kind)
    read = freesurfer.read_warp(tmp_path / "w.mgz")
    np.testing.assert_allclose(read(POINTS), there, atol=1e-3)


@pytest.mark.parametrize("form", ["abs_crs", "disp_crs", "abs_ras", "disp_ras"])
def test_warps_that_freesurfers_library_writes_are_read(form, chain, tmp_path, monkeypatch):
    surfa = pytest.importorskip("surfa")
    monkeypatch.setattr(np, "fromstring", np.frombuffer)
    freesurfer.write_warp(tmp_path / "w.mgz", chain, fixed=FIXED, moving=MOVING)
    warp = surfa.load_warp(str(tmp_path / "w.mgz"))
    warp.convert(getattr(surfa.Warp.Format, form)).save(str(tmp_path / "again.mgz"))
    read = freesurfer.read_warp(tmp_path / "again.mgz")
    np.testing.assert_allclose(read(POINTS), chain(POINTS), atol=1e-3)


def test_affines_of_freesurfer_come_back(tmp_path):
    freesurfer.write_lta(tmp_path / "a.lta", AFFINE, fixed=FIXED, moving=MOVING)
    np.testing.assert_allclose(freesurfer.read_lta(tmp_path / "a.lta"), AFFINE, atol=1e-9)


def test_affines_between_voxels_are_read_too(tmp_path):
    freesurfer.write_lta(tmp_path / "a.lta", AFFINE, fixed=FIXED, moving=MOVING)
    text = (tmp_path / "a.lta").read_text().replace("type      = 1", "type      = 0")
    lines = text.splitlines()
    start = lines.index("1 4 4") + 1
    voxels = np.linalg.inv(FIXED.affine) @ np.linalg.inv(AFFINE) @ MOVING.affine
    lines[start : start + 4] = [" ".join(map(repr, map(float, row))) for row in voxels]
    (tmp_path / "a.lta").write_text("\n".join(lines))
    np.testing.assert_allclose(freesurfer.read_lta(tmp_path / "a.lta"), AFFINE, atol=1e-6)


def test_our_own_x5_comes_back(chain, tmp_path):
    write_x5(tmp_path / "a.x5", chain)
    read = read_x5(tmp_path / "a.x5")
    assert len(read.members) == 2
    np.testing.assert_allclose(read(POINTS), chain(POINTS), atol=1e-5)


@pytest.mark.filterwarnings("ignore:Reference space not set")
def test_an_x5_that_nitransforms_writes_is_read(tmp_path):
    nitransforms = pytest.importorskip("nitransforms")
    affine = nitransforms.linear.Affine(AFFINE)
    nitransforms.manip.TransformChain([affine]).to_filename(tmp_path / "a.x5", fmt="X5")
    np.testing.assert_allclose(read_x5(tmp_path / "a.x5").affine, AFFINE, atol=1e-9)


@pytest.mark.parametrize("name", ["w.mgz", "a.lta", "a.x5"])
def test_the_commands_know_them_by_their_names(name, chain, tmp_path):
    path = tmp_path / name
    if name == "w.mgz":
        freesurfer.write_warp(path, chain, fixed=FIXED, moving=MOVING)
    elif name == "a.lta":
        freesurfer.write_lta(path, AFFINE, fixed=FIXED, moving=MOVING)
    else:
        write_x5(path, chain)
    wanted = Transform((AFFINE,)) if name == "a.lta" else chain
    found = chain_of((str(path),), True)
    np.testing.assert_allclose(found(POINTS), wanted(POINTS), atol=1e-3)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize(("fixed", "moving"), [(FIXED, MOVING), (MOVING, FIXED)])
def test_warps_of_fsl_are_read_be_they_relative_or_absolute(
    fixed, moving, absolute, chain, tmp_path
):
    path = tmp_path / "w.nii.gz"
    fsl.write_warp(path, chain, fixed=fixed, moving=moving)
    if absolute:  # FSL's own coordinates of each voxel added, as convertwarp --absout does
        image = nb.load(path)
        index = np.moveaxis(np.indices(fixed.shape), 0, -1)
        if np.linalg.det(fixed.affine) > 0:
            index[..., 0] = fixed.shape[0] - 1 - index[..., 0]
        vectors = image.get_fdata() + index * fixed.spacing
        nb.save(nb.Nifti1Image(vectors.astype(np.float32), image.affine, image.header), path)
    points = fixed.world(np.argwhere(np.ones(fixed.shape)))
    np.testing.assert_allclose(
        fsl.read_warp(path, moving=moving)(points), chain(points), atol=1e-3
    )


def test_convert_knows_transforms_of_fsl_by_their_content(chain, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, grid in (("fixed.nii", FIXED), ("moving.nii", MOVING)):
        nb.save(nb.Nifti1Image(np.zeros(grid.shape, np.uint8), grid.affine), name)
    grids = ["-r", "fixed.nii", "-m", "moving.nii"]
    fsl.write_warp("w.nii.gz", chain, fixed=FIXED, moving=MOVING)
    assert main(["w.nii.gz", "-o", "itk.nii.gz", *grids]) == 0
    np.testing.assert_allclose(read_itk("itk.nii.gz")(POINTS), chain(POINTS), atol=1e-3)
    fsl.write_flirt("a.mat", AFFINE, fixed=FIXED, moving=MOVING)
    assert main(["a.mat", "-o", "itk.txt", *grids]) == 0
    np.testing.assert_allclose(read_itk("itk.txt").affine, AFFINE, atol=1e-6)
    assert main(["w.nii.gz", "a.mat", "-o", "itk.nii.gz", *grids]) == 2
    assert "w.nii.gz: a transform of FSL is converted alone" in capsys.readouterr().err


def test_coefficients_of_fnirt_are_refused(tmp_path):
    image = nb.Nifti1Image(np.zeros((4, 4, 4, 3), np.float32), np.eye(4))
    image.header.set_intent(2007, allow_unknown=True)
    nb.save(image, tmp_path / "coef.nii")
    with pytest.raises(ValueError, match="holds FNIRT's coefficients; write its field"):
        fsl.read_warp(tmp_path / "coef.nii", moving=MOVING)


def test_what_is_none_is_refused_in_one_line(chain, tmp_path):
    for name, read, message in (
        ("a.lta", freesurfer.read_lta, "not an LTA of one affine"),
        ("a.x5", read_x5, "not an X5 file"),
        ("a.mgz", freesurfer.read_warp, "not a warp of FreeSurfer"),
    ):
        (tmp_path / name).write_bytes(b"nothing of that kind")
        with pytest.raises(ValueError, match=message):
            read(tmp_path / name)
    nb.save(nb.MGHImage(np.zeros((2, 2, 2), np.float32), np.eye(4)), tmp_path / "image.mgz")
    with pytest.raises(ValueError, match="an image, as its first bytes say"):
        freesurfer.read_warp(tmp_path / "image.mgz")
    freesurfer.write_warp(tmp_path / "half.mgz", chain, fixed=FIXED, moving=MOVING)
    change(tmp_path / "half.mgz", spacing=2)
    with pytest.raises(ValueError, match="every 2th voxel; write it at full resolution"):
        freesurfer.read_warp(tmp_path / "half.mgz")


@pytest.mark.parametrize(
    "reader",
    [
        read_itk, read_affine, freesurfer.read_lta, freesurfer.read_warp, read_x5,
        partial(fsl.read_flirt, fixed=FIXED, moving=MOVING),
    ],
    ids=["ITK", "affine", "LTA", "warp", "X5", "FLIRT"],
)  # fmt: skip
def test_a_file_that_is_not_there_is_named(reader, tmp_path, capfd):
    with pytest.raises(ValueError, match=r"nowhere.h5: no such file; check the path$"):
        reader(tmp_path / "nowhere.h5")
    assert capfd.readouterr() == ("", "")


def test_an_affine_in_several_parts_is_their_product(tmp_path):
    import SimpleITK as sitk

    other = from_matvec(np.diag([1.2, 0.8, 1.0]), [1.0, 2.0, 3.0])
    both = sitk.CompositeTransform([as_itk_affine(AFFINE), as_itk_affine(other)])
    sitk.WriteTransform(both, str(tmp_path / "both.tfm"))
    np.testing.assert_allclose(read_affine(tmp_path / "both.tfm"), AFFINE @ other, atol=1e-9)
