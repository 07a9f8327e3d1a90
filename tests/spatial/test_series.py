"""Images of any number of volumes: SimpleITK gives the same voxels."""

import nibabel as nb
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import from_sitk, to_sitk
from vxmprep.spatial.opening import ImageError
from vxmprep.spatial.series import resample_file
from vxmprep.spatial.transform import Field, Transform

TURN = Rotation.from_euler("xyz", [10, -15, 20], degrees=True).as_matrix()
SOURCE = Grid((24, 20, 22), from_matvec(np.diag([-2.0, 2.0, 2.0]), [24.0, -20.0, -22.0]))
WANTED = Grid((15, 16, 17), from_matvec(TURN * [2.5, 2.5, 2.5], [-14.0, -25.0, -12.0]))
AFFINE = from_matvec(np.diag([1.05, 0.95, 1.1]), [1.0, -1.0, 0.5])


@pytest.fixture(scope="module")
def chain() -> Transform:
    rough = np.random.default_rng(2).normal(size=(9, 9, 9, 3)).astype(np.float32)
    grid = Grid((9, 9, 9), from_matvec(np.eye(3) * 8, [-32.0] * 3))
    return Transform((Field(rough, grid), AFFINE))


@pytest.fixture
def series(tmp_path) -> nb.Nifti1Image:
    data = np.random.default_rng(3).integers(0, 2000, (*SOURCE.shape, 3)).astype(np.int16)
    image = nb.Nifti1Image(data, SOURCE.affine)
    image.header.set_zooms((2.0, 2.0, 2.0, 1.7))
    image.header.set_xyzt_units("mm", "sec")
    nb.save(image, tmp_path / "bold.nii.gz")
    return image


def by_itk(volume: nb.Nifti1Image, chain: Transform, method: int) -> np.ndarray:
    reference = to_sitk(nb.Nifti1Image(np.zeros(WANTED.shape, np.float32), WANTED.affine))
    moving = sitk.Cast(to_sitk(volume), sitk.sitkFloat32)
    return from_sitk(sitk.Resample(moving, reference, chain.as_itk(), method, 0.0)).get_fdata()


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("linear", sitk.sitkLinear),
        ("cubic", sitk.sitkBSpline),
        ("nearest", sitk.sitkNearestNeighbor),
    ],
)
def test_every_volume_is_resampled_as_itk_does(name, method, series, chain, tmp_path):
    target = tmp_path / "out.nii.gz"
    resample_file(tmp_path / "bold.nii.gz", target, WANTED, chain, interpolation=name)
    found = nb.load(target)
    np.testing.assert_allclose(found.affine, WANTED.affine, atol=1e-5)
    assert found.shape == (*WANTED.shape, 3)
    for number in range(3):
        volume = nb.Nifti1Image(np.asarray(series.dataobj)[..., number], SOURCE.affine)
        np.testing.assert_allclose(
            found.get_fdata()[..., number], by_itk(volume, chain, method), atol=2e-2
        )


def test_the_label_with_the_most_weight_wins(series, chain, tmp_path):
    labels = (series.get_fdata()[..., 0] // 500).astype(np.uint8)
    nb.save(nb.Nifti1Image(labels, SOURCE.affine), tmp_path / "a.nii")
    resample_file(tmp_path / "a.nii", tmp_path / "o.nii", WANTED, chain, interpolation="label")
    kinds = [
        by_itk(
            nb.Nifti1Image((labels == k).astype(np.float32), SOURCE.affine), chain, sitk.sitkLinear
        )
        for k in range(4)
    ]
    expected = np.where(np.sum(kinds, axis=0) > 0.5, np.argmax(kinds, axis=0), 0)
    np.testing.assert_array_equal(nb.load(tmp_path / "o.nii").get_fdata(), expected)


def test_time_is_kept(series, chain, tmp_path):
    resample_file(tmp_path / "bold.nii.gz", tmp_path / "out.nii", WANTED, chain)
    header = nb.load(tmp_path / "out.nii").header
    np.testing.assert_allclose(header.get_zooms(), (2.5, 2.5, 2.5, 1.7), rtol=1e-6)
    assert header.get_xyzt_units() == ("mm", "sec")
    assert header.get_data_dtype() == np.float32


def test_nearest_keeps_the_type_of_labels(series, chain, tmp_path):
    resample_file(
        tmp_path / "bold.nii.gz", tmp_path / "out.nii", WANTED, chain, interpolation="nearest"
    )
    assert nb.load(tmp_path / "out.nii").get_data_dtype() == np.int16


@pytest.mark.parametrize(("modulation", "kept"), [("full", 1.0), ("deformable", 1 / 1.09725)])
def test_modulation_keeps_the_amount(modulation, kept, tmp_path):
    # a smooth blob well inside; the affine alone changes volumes by 1.05 * 0.95 * 1.1
    indices = np.stack(np.mgrid[:24, :20, :22], -1).reshape(-1, 3)
    distance = np.linalg.norm(SOURCE.world(indices), axis=1).reshape(SOURCE.shape)
    nb.save(
        nb.Nifti1Image(np.exp(-((distance / 7) ** 2)).astype(np.float32), SOURCE.affine),
        tmp_path / "gm.nii.gz",
    )
    wide = Grid((60, 60, 60), from_matvec(np.eye(3), [-30.0] * 3))
    places = wide.world(np.stack(np.mgrid[:60, :60, :60], -1).reshape(-1, 3))
    wave = 2 * np.sin(places / 9).reshape(*wide.shape, 3).astype(np.float32)
    chain = Transform((Field(wave, wide), AFFINE))
    resample_file(
        tmp_path / "gm.nii.gz", tmp_path / "mod.nii.gz", wide, chain, modulation=modulation
    )
    before = nb.load(tmp_path / "gm.nii.gz").get_fdata().sum() * 8
    assert nb.load(tmp_path / "mod.nii.gz").get_fdata().sum() == pytest.approx(
        before * kept, rel=2e-3
    )


def test_nan_does_not_spread(chain, tmp_path):
    data = np.ones(SOURCE.shape, np.float32)
    data[0, 0, 0] = np.nan
    nb.save(nb.Nifti1Image(data, SOURCE.affine), tmp_path / "a.nii")
    resample_file(
        tmp_path / "a.nii", tmp_path / "o.nii", WANTED, Transform(()), interpolation="cubic"
    )
    assert np.isfinite(nb.load(tmp_path / "o.nii").get_fdata()).all()


def test_fractions_are_no_labels(tmp_path):
    nb.save(
        nb.Nifti1Image(np.full(SOURCE.shape, 0.5, np.float32), SOURCE.affine), tmp_path / "a.nii"
    )
    with pytest.raises(ImageError, match=r"a\.nii: holds fractions"):
        resample_file(
            tmp_path / "a.nii", tmp_path / "o.nii", WANTED, Transform(()), interpolation="label"
        )
    assert not list(tmp_path.glob("*o.nii"))


@pytest.mark.parametrize("interpolation", ["nearest", "label"])
@pytest.mark.parametrize("way", ["affine", "field"])
def test_what_is_lost_between_coarse_voxels_does_not_lie_beside_the_grid(
    way, interpolation, tmp_path
):
    lesion, source, target = (
        np.zeros((30, 30, 30), np.uint8),
        tmp_path / "a.nii",
        tmp_path / "b.nii",
    )
    lesion[15, 15, 15] = 1
    nb.save(nb.Nifti1Image(lesion, np.eye(4)), source)
    coarse = Grid((10, 10, 10), from_matvec(np.eye(3) * 3, [1.4] * 3))
    still = Field(np.zeros((*coarse.shape, 3), np.float32), coarse)
    chain = Transform(() if way == "affine" else (still,))
    resample_file(source, target, coarse, chain, interpolation=interpolation)
    assert not nb.load(target).get_fdata().any()
    away = chain.then(Transform((from_matvec(np.eye(3), [40.0, 0, 0]),)))
    with pytest.raises(ImageError, match="nothing of it reaches the grid"):
        resample_file(source, target, coarse, away, interpolation=interpolation)


def test_the_same_bytes_every_time(series, chain, tmp_path):
    for name in ("one", "two"):
        resample_file(tmp_path / "bold.nii.gz", tmp_path / f"{name}.nii.gz", WANTED, chain)
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()


def test_labels_of_a_later_volume_may_be_larger_than_those_of_the_first(tmp_path):
    first = np.full(SOURCE.shape, 7, np.int64)
    data = np.stack([first, first + 2**40], axis=-1)
    nb.save(nb.Nifti1Image(data, SOURCE.affine, dtype=np.int64), tmp_path / "labels.nii.gz")
    resample_file(
        tmp_path / "labels.nii.gz", tmp_path / "out.nii", SOURCE, Transform(()),
        interpolation="nearest",
    )  # fmt: skip
    np.testing.assert_array_equal(np.asarray(nb.load(tmp_path / "out.nii").dataobj), data)


def test_large_labels_in_double_precision_are_kept(tmp_path):
    data = 2.0**24 + np.arange(np.prod(SOURCE.shape)).reshape(SOURCE.shape)
    nb.save(nb.Nifti1Image(data, SOURCE.affine), tmp_path / "labels.nii")
    resample_file(
        tmp_path / "labels.nii", tmp_path / "out.nii", SOURCE, Transform(()),
        interpolation="nearest",
    )  # fmt: skip
    np.testing.assert_array_equal(np.asarray(nb.load(tmp_path / "out.nii").dataobj), data)


@pytest.mark.parametrize("kind", [">i2", ">i4", ">f4"])
def test_labels_keep_their_type_in_whatever_order_their_bytes_are(kind, tmp_path):
    labels = np.arange(np.prod(SOURCE.shape)).reshape(SOURCE.shape).astype(kind)
    nb.save(nb.MGHImage(labels, SOURCE.affine), tmp_path / "labels.mgz")
    resample_file(
        tmp_path / "labels.mgz", tmp_path / "out.nii", SOURCE, Transform(()),
        interpolation="nearest",
    )  # fmt: skip
    found = nb.load(tmp_path / "out.nii")
    assert found.get_data_dtype() == np.dtype(kind).newbyteorder("=")
    np.testing.assert_array_equal(np.asarray(found.dataobj), labels)
