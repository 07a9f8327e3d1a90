"""Reading images with one clear complaint, and writing them whole."""

import re

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from vxmprep.spatial.headers import inspect
from vxmprep.spatial.images import (
    ImageError,
    like,
    load,
    load_scan,
    not_finite,
    save,
)

OBLIQUE = from_matvec(
    Rotation.from_euler("xyz", [17, -11, 29], degrees=True).as_matrix() * [-1.0, 1.2, 2.0],
    [33.0, -21.0, 8.0],
)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, size=shape).astype(np.int16)


def nifti(path, data: np.ndarray):
    nb.save(nb.Nifti1Image(data, OBLIQUE), path)
    return path


def complaint(read, path) -> str:
    """Give why a file is refused, without the path with which the message starts."""
    with pytest.raises(ImageError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("read", [load, load_scan])
@pytest.mark.parametrize("shape", [(24, 24), (24, 24, 24, 3)])
def test_what_is_no_single_volume_is_refused(shape, read, tmp_path):
    assert "one 3-D volume" in complaint(read, nifti(tmp_path / "x.nii.gz", noise(*shape)))


@pytest.mark.parametrize("read", [load, load_scan])
def test_a_link_to_content_not_fetched_is_refused(read, tmp_path):
    (tmp_path / "x.nii.gz").symlink_to("../.git/annex/objects/0")
    assert "datalad get" in complaint(read, tmp_path / "x.nii.gz")


@pytest.mark.parametrize("read", [load, load_scan])
@pytest.mark.parametrize("kept", [2000, -20])
def test_a_file_cut_short_is_refused(kept, read, tmp_path):
    path = nifti(tmp_path / "x.nii.gz", noise(24, 24, 24))
    path.write_bytes(path.read_bytes()[:kept])
    assert complaint(read, path).startswith("cut short")


@pytest.mark.parametrize("read", [load, load_scan])
def test_a_file_damaged_inside_is_refused_once_its_voxels_are_read(read, tmp_path):
    """Its size tells nothing, so the header passes."""
    path = nifti(tmp_path / "x.nii.gz", noise(24, 24, 24))
    content = bytearray(path.read_bytes())
    content[10000:10100] = bytes(100)
    path.write_bytes(content)
    inspect(path)
    assert complaint(read, path) == "cut short or damaged; fetch or copy it anew"


def test_a_scan_with_a_bad_header_is_refused(tmp_path):
    path = tmp_path / "x.nii.gz"
    nb.save(nb.Nifti1Image(noise(24, 24, 24), np.diag([0.05, 1, 1, 1])), path)
    assert "expected 0.1 to 10" in complaint(load_scan, path)


def test_a_constant_image_is_refused(tmp_path):
    path = nifti(tmp_path / "x.nii.gz", np.full((24, 24, 24), 7, np.int16))
    assert complaint(load_scan, path).startswith("every voxel holds 7")


def test_an_image_without_anything_above_0_is_refused(tmp_path):
    path = nifti(tmp_path / "x.nii.gz", noise(24, 24, 24) - 1000)
    assert complaint(load_scan, path).startswith("no voxel is above 0 (the highest holds -101)")


def test_a_standardised_scan_is_read(tmp_path):
    path = nifti(tmp_path / "x.nii.gz", (noise(24, 24, 24) - 450).astype(np.float32))
    assert np.asarray(load_scan(path).dataobj).min() < 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_of_mostly_no_numbers_is_refused(value, tmp_path):
    data = noise(24, 24, 24).astype(np.float32)
    data[:23] = value
    said = complaint(load_scan, nifti(tmp_path / "x.nii.gz", data))
    assert said.startswith("95.8% of its voxels are not finite")


def test_a_stripped_brain_whose_background_is_not_a_number_is_read(tmp_path):
    data = np.full((24, 24, 24), np.nan, np.float32)
    data[6:18, 6:18, 6:18] = noise(12, 12, 12)
    image = load_scan(nifti(tmp_path / "x.nii.gz", data))
    assert not np.asarray(image.dataobj)[:6].any()


def test_how_many_voxels_are_not_finite_is_told(tmp_path):
    data = noise(24, 24, 24).astype(np.float64)
    data[0, 0, :4] = np.nan, np.inf, -np.inf, 1e300
    image = load_scan(nifti(tmp_path / "x.nii.gz", data))
    assert not_finite(image) == 4
    assert not np.asarray(image.dataobj)[0, 0, :4].any()


def test_a_sound_scan_has_no_voxel_that_is_not_finite(shared_data):
    image = load_scan(shared_data / "whole-head-cohort" / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    assert not_finite(image) == 0


def test_a_scan_is_opened_once(tmp_path, monkeypatch):
    path, opened = nifti(tmp_path / "x.nii.gz", noise(24, 24, 24)), []
    original = nb.load
    monkeypatch.setattr(nb, "load", lambda p: opened.append(p) or original(p))
    load_scan(path)
    assert opened == [path]


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
