"""Reading images with one clear complaint, and writing them whole."""

import gzip
import re

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from vxmprep.spatial.images import ImageError, like, load, load_scan, save

OBLIQUE = from_matvec(
    Rotation.from_euler("xyz", [17, -11, 29], degrees=True).as_matrix() * [-1.0, 1.2, 2.0],
    [33.0, -21.0, 8.0],
)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, size=shape).astype(np.int16)


def nifti(path, data: np.ndarray):
    nb.save(nb.Nifti1Image(data, OBLIQUE), path)
    return path


def empty(path):
    path.write_bytes(b"")
    return path


def text(path):
    path.write_text("/annex/objects/MD5E-s1234--0123.nii.gz\n")
    return path


def not_there(path):
    return path


def truncated_gz(path):
    nifti(path, noise(20, 20, 20))
    path.write_bytes(path.read_bytes()[:4000])
    return path


def truncated_inside_gz(path):
    whole = nifti(path.with_name("whole.nii"), noise(20, 20, 20)).read_bytes()
    path.write_bytes(gzip.compress(whole[:4000]))
    return path


def two_dimensions(path):
    return nifti(path, noise(8, 8))


def several_volumes(path):
    return nifti(path, noise(8, 8, 8, 3))


def constant(path):
    return nifti(path, np.full((8, 8, 8), 7, np.int16))


def only_nan(path):
    return nifti(path, np.full((8, 8, 8), np.nan, np.float32))


BROKEN = {
    empty: "cannot be read",
    text: "cannot be read",
    not_there: "no such file",
    truncated_gz: "cannot be read",
    truncated_inside_gz: "cannot be read",
    two_dimensions: "found 8x8",
    several_volumes: "found 8x8x8x3",
    constant: "every voxel holds 7",
    only_nan: "every voxel holds 0",
}


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(make, tmp_path):
    path = make(tmp_path / "sub-01_T1w.nii.gz")
    with pytest.raises(ImageError, match=f"^{re.escape(str(path))}: .*{BROKEN[make]}"):
        load_scan(path)


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_the_complaint_about_a_file_is_one_line(make, tmp_path):
    with pytest.raises(ImageError) as caught:
        load_scan(make(tmp_path / "sub-01_T1w.nii.gz"))
    assert "\n" not in str(caught.value)


def test_a_cut_off_file_without_compression_is_named_in_one_line(tmp_path):
    path = nifti(tmp_path / "x.nii", noise(20, 20, 20))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(ImageError, match=re.escape(str(path))) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_colours_is_refused(tmp_path):
    path = tmp_path / "x.nii.gz"
    data = np.zeros((8, 8, 8), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    data["R"] = noise(8, 8, 8) % 255
    with pytest.raises(ImageError, match=re.escape(str(path))):
        load(nifti(path, data))


def test_four_dimensions_of_one_volume_count_as_three(tmp_path):
    image = load(nifti(tmp_path / "x.nii.gz", noise(8, 9, 10, 1)))
    assert image.shape == (8, 9, 10)
    np.testing.assert_array_equal(np.asarray(image.dataobj), noise(8, 9, 10, 1)[..., 0])


def test_voxels_that_are_not_finite_become_0(tmp_path):
    data = noise(8, 8, 8).astype(np.float32)
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    loaded = np.asarray(load(nifti(tmp_path / "x.nii.gz", data)).dataobj)
    np.testing.assert_array_equal(loaded[0, 0, :3], 0)
    np.testing.assert_array_equal(loaded[1:], data[1:])


def test_the_scaling_of_the_file_is_applied(tmp_path):
    raw = noise(8, 8, 8)
    path = nifti(tmp_path / "x.nii", raw)
    content = bytearray(path.read_bytes())
    # scl_slope and scl_inter of the header
    content[112:120] = np.array([0.5, 10.0], "<f4").tobytes()
    path.write_bytes(content)
    np.testing.assert_allclose(np.asarray(load(path).dataobj), 0.5 * raw + 10)


def test_labels_stored_as_floats_are_rounded_not_cut(tmp_path):
    data = np.array([2.9999, 17.0001, 53.0, 0.0], np.float32).reshape(4, 1, 1)
    loaded = load(nifti(tmp_path / "x.nii.gz", data), np.int16)
    np.testing.assert_array_equal(np.asarray(loaded.dataobj).ravel(), [3, 17, 53, 0])


def test_both_forms_of_the_header_hold_the_affine(tmp_path):
    save(nb.Nifti1Image(noise(8, 8, 8), OBLIQUE), tmp_path / "x.nii.gz")
    header = nb.load(tmp_path / "x.nii.gz").header
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = header.get_qform(coded=True)
    np.testing.assert_allclose(sform, OBLIQUE, atol=1e-5)
    np.testing.assert_allclose(qform, OBLIQUE, atol=1e-5)
    assert sform_code == qform_code == 1
    assert header.get_xyzt_units()[0] == "mm"


def test_integer_labels_are_kept_as_they_are(tmp_path):
    save(nb.Nifti1Image(noise(8, 8, 8), OBLIQUE), tmp_path / "x.nii.gz")
    image = nb.load(tmp_path / "x.nii.gz")
    assert image.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asarray(image.dataobj), noise(8, 8, 8))


@pytest.mark.parametrize("top", [1.0, 255.0, 31234.5])
def test_intensities_in_4095_steps_are_off_by_half_a_step_at_most(top, tmp_path):
    """One voxel a hundred times as bright as the rest costs only itself."""
    data = np.random.default_rng(1).uniform(0, 1, size=(12, 12, 12)).astype(np.float32)
    data = data / data.max() * top
    data[0, 0, 0] = 100 * top
    save(nb.Nifti1Image(data, OBLIQUE), tmp_path / "x.nii.gz", steps=4095)
    image = nb.load(tmp_path / "x.nii.gz")
    assert image.get_data_dtype() == np.int16
    stored = image.get_fdata()
    assert np.abs(stored - data).ravel()[1:].max() <= 0.5001 * top / 4095
    assert stored[0, 0, 0] > 5 * top


def test_intensities_below_0_are_kept(tmp_path):
    data = np.linspace(-10, 100, 64, dtype=np.float32).reshape(4, 4, 4)
    save(nb.Nifti1Image(data, OBLIQUE), tmp_path / "x.nii.gz", steps=4095)
    np.testing.assert_array_equal(nb.load(tmp_path / "x.nii.gz").get_fdata(), data)


def test_a_scan_whose_axes_are_not_at_right_angles_is_refused(tmp_path):
    sheared = OBLIQUE.copy()
    sheared[:3, 1] += 0.1 * sheared[:3, 0]
    nb.save(nb.Nifti1Image(noise(8, 8, 8), sheared), tmp_path / "x.nii.gz")
    with pytest.raises(ImageError, match="right angles"):
        load_scan(tmp_path / "x.nii.gz")


def test_writing_leaves_no_temporary_file(tmp_path):
    save(nb.Nifti1Image(noise(8, 8, 8), OBLIQUE), tmp_path / "x.nii.gz")
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii.gz"]


def test_a_failed_write_leaves_the_old_image(tmp_path, monkeypatch):
    path = save(nb.Nifti1Image(noise(8, 8, 8), OBLIQUE), tmp_path / "x.nii.gz")
    before = path.read_bytes()

    def half(image, where):
        where.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(nb.Nifti1Image, "to_filename", half)
    with pytest.raises(OSError, match="no space left"):
        save(nb.Nifti1Image(noise(8, 8, 8) + 1, OBLIQUE), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii.gz"]


def test_a_mask_is_stored_as_bytes_in_the_place_of_its_image():
    image = nb.Nifti1Image(noise(8, 8, 8), OBLIQUE)
    mask = like(noise(8, 8, 8) > 400, image)
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, OBLIQUE)
