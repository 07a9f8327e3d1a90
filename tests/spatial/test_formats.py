"""Transforms as files of other programs: where each of them takes a point.

nitransforms reads X5, LTA and FLIRT's matrices, surfa (FreeSurfer's library, where it is
installed) LTA and warps. FSL's warps are followed by hand, as its documentation defines them.
"""

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from vxmprep.spatial import freesurfer, fsl
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.transform import Field, Transform
from vxmprep.spatial.x5 import write_x5

TURN = Rotation.from_euler("xyz", [8, -14, 21], degrees=True).as_matrix()
AFFINE = from_matvec(TURN @ np.diag([1.1, 0.95, 1.05]), [3.0, -2.0, 4.0])
LIA = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
RAS = Grid((14, 16, 12), from_matvec(np.diag([2.0, 2.5, 2.0]), [-14.0, -20.0, -12.0]))
LAS = Grid((16, 14, 18), from_matvec(TURN.T @ np.diag([-2.0, 2.0, 1.5]), [15.0, -13.0, -12.0]))
OBLIQUE_LIA = Grid((15, 13, 17), from_matvec(TURN @ LIA * [1.5, 2.0, 2.5], [9.0, -20.0, 8.0]))
PAIRS = [(RAS, LAS), (LAS, RAS), (OBLIQUE_LIA, RAS), (RAS, OBLIQUE_LIA)]


@pytest.fixture
def chain() -> Transform:
    waves = Grid((9, 9, 9), from_matvec(np.eye(3) * 6, [-24.0] * 3))
    field = np.random.default_rng(5).normal(size=(*waves.shape, 3)).astype(np.float32)
    return Transform((Field(field, waves), AFFINE))


def image(grid: Grid) -> nb.Nifti1Image:
    return nb.Nifti1Image(np.zeros(grid.shape, np.float32), grid.affine)


def voxels(grid: Grid) -> np.ndarray:
    return np.argwhere(np.ones(grid.shape))


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
def test_nitransforms_reads_our_flirt_matrix(fixed, moving, tmp_path):
    io = pytest.importorskip("nitransforms.io.fsl")
    fsl.write_flirt(tmp_path / "a.mat", AFFINE, fixed=fixed, moving=moving)
    read = io.FSLLinearTransform.from_filename(tmp_path / "a.mat")
    found = read.to_ras(moving=image(moving), reference=image(fixed))
    np.testing.assert_allclose(found, AFFINE, atol=1e-6)
    again = fsl.read_flirt(tmp_path / "a.mat", fixed=fixed, moving=moving)
    np.testing.assert_allclose(again, AFFINE, atol=1e-6)


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
def test_a_warp_of_fsl_leads_from_voxel_to_voxel(fixed, moving, chain, tmp_path):
    fsl.write_warp(tmp_path / "w.nii.gz", chain, fixed=fixed, moving=moving)
    warp = nb.load(tmp_path / "w.nii.gz")
    assert int(warp.header["intent_code"]) == 2006
    np.testing.assert_allclose(warp.affine, fixed.affine, atol=1e-5)
    indices = voxels(fixed)

    # applywarp: FSL's mm of a voxel of the reference, plus the vector there, are mm of the input;
    # FSL counts the first axis from its end where an image is stored in neurological order
    def turned(grid: Grid, where: np.ndarray) -> np.ndarray:
        flips = np.linalg.det(grid.affine[:3, :3]) > 0
        return np.where([flips, False, False], np.array(grid.shape) - 1 - where, where)

    there = turned(fixed, indices) * fixed.spacing + warp.get_fdata().reshape(-1, 3)
    found = moving.world(turned(moving, there / moving.spacing))
    np.testing.assert_allclose(found, chain(fixed.world(indices)), atol=1e-4)


def test_fsl_warps_may_be_affine_alone_and_agree_with_the_matrix(tmp_path):
    fsl.write_warp(tmp_path / "w.nii", Transform((AFFINE,)), fixed=RAS, moving=LAS)
    fsl.write_flirt(tmp_path / "a.mat", AFFINE, fixed=RAS, moving=LAS)
    here = apply_affine(fsl.fsl_coordinates(RAS), voxels(RAS))
    there = here + nb.load(tmp_path / "w.nii").get_fdata().reshape(-1, 3)
    np.testing.assert_allclose(
        apply_affine(np.loadtxt(tmp_path / "a.mat"), there), here, atol=1e-4
    )


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
def test_nitransforms_reads_our_lta(fixed, moving, tmp_path):
    lta = pytest.importorskip("nitransforms.io.lta")
    freesurfer.write_lta(tmp_path / "a.lta", AFFINE, fixed=fixed, moving=moving)
    read = lta.FSLinearTransform.from_filename(tmp_path / "a.lta")
    np.testing.assert_allclose(read.to_ras(), AFFINE, atol=1e-6)
    for side, grid in (("src", moving), ("dst", fixed)):
        np.testing.assert_array_equal(np.ravel(read[side]["volume"]), grid.shape)


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
def test_freesurfers_library_reads_our_lta(fixed, moving, tmp_path):
    surfa = pytest.importorskip("surfa")
    freesurfer.write_lta(tmp_path / "a.lta", AFFINE, fixed=fixed, moving=moving)
    read = surfa.load_affine(str(tmp_path / "a.lta"))
    np.testing.assert_allclose(read.matrix, np.linalg.inv(AFFINE), atol=1e-9)
    np.testing.assert_allclose(read.source.vox2world.matrix, moving.affine, atol=1e-4)
    np.testing.assert_allclose(read.target.vox2world.matrix, fixed.affine, atol=1e-4)


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
def test_freesurfers_library_resamples_through_our_warp(
    fixed, moving, chain, tmp_path, monkeypatch
):
    surfa = pytest.importorskip("surfa")
    # surfa 0.6.3 calls what numpy 2.3 has taken away
    monkeypatch.setattr(np, "fromstring", np.frombuffer)
    freesurfer.write_warp(tmp_path / "w.mgz", chain, fixed=fixed, moving=moving)
    warp = surfa.load_warp(str(tmp_path / "w.mgz"))
    np.testing.assert_allclose(warp.source.vox2world.matrix, moving.affine, atol=1e-4)
    np.testing.assert_allclose(warp.target.vox2world.matrix, fixed.affine, atol=1e-4)
    assert warp.format == surfa.Warp.Format.disp_ras
    # a ramp along each axis tells where every voxel came from
    indices, there = voxels(fixed), moving.indices(chain(fixed.world(voxels(fixed))))
    inside = ((there > 0.5) & (there < np.array(moving.shape) - 1.5)).all(axis=1)
    assert inside.sum() > 300
    for axis in range(3):
        ramp = np.indices(moving.shape)[axis].astype(np.float32)
        geometry = surfa.ImageGeometry(moving.shape, vox2world=moving.affine)
        moved = warp(surfa.Volume(ramp, geometry)).data
        found = moved[tuple(indices[inside].T)]
        np.testing.assert_allclose(np.squeeze(found), there[inside, axis], atol=1e-3)


def test_the_warp_of_freesurfer_is_laid_out_as_it_reads_it(chain, tmp_path):
    # without its library: nibabel reads the volume, and the tags stand where they must
    import gzip

    freesurfer.write_warp(tmp_path / "w.mgz", chain, fixed=RAS, moving=LAS)
    content = gzip.decompress((tmp_path / "w.mgz").read_bytes())
    assert int.from_bytes(content[:4], "big") == 0x301
    plain = nb.MGHImage.from_bytes((1).to_bytes(4, "big") + content[4:])
    np.testing.assert_allclose(plain.affine, RAS.affine, atol=1e-4)
    np.testing.assert_allclose(plain.get_fdata(), chain.displacements(RAS), atol=1e-6)
    tags = content[284 + 4 * 3 * int(np.prod(RAS.shape)) + 20 :]
    assert int.from_bytes(tags[:4], "big") == 10
    source, target = tags[4 : 4 + 588], tags[592 : 592 + 588]
    for grid, geometry in ((LAS, source), (RAS, target)):
        np.testing.assert_array_equal(np.frombuffer(geometry[4:16], ">i4"), grid.shape)
        np.testing.assert_allclose(np.frombuffer(geometry[16:28], ">f4"), grid.spacing, rtol=1e-6)
    assert int.from_bytes(tags[1180:1184], "big") == 15
    assert int.from_bytes(tags[1184:1192], "big") == 1200
    assert int.from_bytes(tags[1192 + 1200 :][:4], "big") == 13
    assert int.from_bytes(tags[1192 + 1200 + 12 :][:4], "big") == 3


def test_nitransforms_maps_points_as_our_x5_says(chain, tmp_path):
    manip = pytest.importorskip("nitransforms.manip")
    write_x5(tmp_path / "a.x5", chain)
    read = manip.TransformChain.from_filename(tmp_path / "a.x5", fmt="X5")
    assert len(read) == 2
    grid = chain.members[0].grid
    points = grid.world(np.argwhere(np.ones(grid.shape)))  # there no interpolation differs
    np.testing.assert_allclose(read.map(points), chain(points), atol=1e-4)
