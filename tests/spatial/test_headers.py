"""What is refused by looking at a scan's header, voxels unread."""

import struct
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from vxmprep.spatial.headers import inspect
from vxmprep.spatial.opening import ImageError

SHAPE = (24, 25, 26)
OBLIQUE = from_matvec(
    Rotation.from_euler("xyz", [17, -11, 29], degrees=True).as_matrix() * [-1.0, 1.2, 2.0],
    [33.0, -21.0, 8.0],
)
PIXDIM, CODES, SFORM = 76, 252, 280


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, size=shape).astype(np.int16)


def scan(path: Path, shape: tuple[int, ...] = SHAPE, affine: np.ndarray = OBLIQUE) -> Path:
    nb.save(nb.Nifti1Image(noise(*shape), affine), path)
    return path


def edited(path: Path, offset: int, format_: str, *values: float) -> Path:
    """Write a scan and change bytes of its header."""
    content = bytearray(scan(path.with_name("whole.nii")).read_bytes())
    struct.pack_into(format_, content, offset, *values)
    path.write_bytes(content)
    return path


def complaint(path: Path) -> str:
    """Give why a scan is refused, without the path with which the message starts."""
    with pytest.raises(ImageError) as caught:
        inspect(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.mgh", "x.mgz"])
def test_a_scan_gives_its_shape_and_voxel_size(name, tmp_path):
    kind = nb.Nifti1Image if "nii" in name else nb.MGHImage
    nb.save(kind(noise(*SHAPE), OBLIQUE), tmp_path / name)
    header = inspect(tmp_path / name)
    assert header.shape == SHAPE
    assert header.spacing == pytest.approx((1.0, 1.2, 2.0), abs=1e-5)


def test_every_real_scan_passes(shared_data):
    scans = sorted(shared_data.glob("*/sub-*/anat/*_T1w.nii.gz"))
    assert len(scans) > 60
    for path in scans:
        inspect(path)


def test_a_clinical_scan_of_thick_slices_passes(tmp_path):
    path = scan(tmp_path / "x.nii.gz", (64, 64, 20), np.diag([3.0, 3.0, 5.0, 1.0]))
    assert inspect(path).spacing.tolist() == [3, 3, 5]


def test_one_volume_in_four_dimensions_passes(tmp_path):
    assert inspect(scan(tmp_path / "x.nii.gz", (*SHAPE, 1))).shape == SHAPE


def test_no_voxel_is_read(tmp_path, monkeypatch):
    path = scan(tmp_path / "x.nii.gz")
    monkeypatch.setattr(nb.arrayproxy.ArrayProxy, "__array__", None)
    monkeypatch.setattr(nb.arrayproxy.ArrayProxy, "get_unscaled", None)
    assert inspect(path).shape == SHAPE


@pytest.mark.parametrize("sform_code", [1, 0])
@pytest.mark.parametrize("size", [0.0, -1.0, np.nan, np.inf, 0.001, 1000.0])
def test_an_absurd_voxel_size_is_refused(size, sform_code, tmp_path):
    """Also where nibabel repairs it, or the sform has a better one: programs disagree then."""
    path = edited(tmp_path / "x.nii", PIXDIM, "<4f", 1, size, 1, 1)
    content = bytearray(path.read_bytes())
    struct.pack_into("<2h", content, CODES, 1, sform_code)
    path.write_bytes(content)
    assert complaint(path).startswith(
        f"voxels of {size:g}x1x1 mm by its header's pixdim, expected"
    )


@pytest.mark.parametrize("size", [0.0, 0.05, 12.0, np.nan])
def test_an_absurd_voxel_size_in_the_sform_is_refused(size, tmp_path):
    path = edited(tmp_path / "x.nii", SFORM, "<12f", size, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    assert f"voxels of {size:g}x1x1 mm by its header's affine, expected 0.1 to 10" in complaint(
        path
    )


def test_what_nibabel_repairs_is_not_said_twice(tmp_path, capfd):
    complaint(edited(tmp_path / "x.nii", PIXDIM, "<4f", 1, 0, 1, 1))
    assert capfd.readouterr() == ("", "")


def test_an_origin_that_is_no_number_is_refused(tmp_path):
    path = edited(tmp_path / "x.nii", SFORM, "<12f", 1, 0, 0, np.nan, 0, 1, 0, 0, 0, 0, 1, 0)
    assert "not finite" in complaint(path)


def test_a_singular_affine_is_refused(tmp_path):
    path = edited(tmp_path / "x.nii", SFORM, "<12f", 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    assert "singular" in complaint(path)


def test_axes_that_are_not_at_right_angles_are_refused(tmp_path):
    sheared = OBLIQUE.copy()
    sheared[:3, 1] += 0.1 * sheared[:3, 0]
    assert "right angles" in complaint(scan(tmp_path / "x.nii.gz", affine=sheared))


def test_an_orientation_that_is_not_written_is_refused_and_how_to_write_it_said(tmp_path):
    said = complaint(edited(tmp_path / "x.nii", CODES, "<2h", 0, 0))
    assert "left and right cannot be told apart" in said
    assert "fslorient" in said


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (2, 4)])
def test_one_form_of_orientation_is_enough(codes, tmp_path):
    inspect(edited(tmp_path / "x.nii", CODES, "<2h", *codes))


def test_an_analyze_image_is_refused_as_it_has_no_orientation(tmp_path):
    nb.save(nb.AnalyzeImage(noise(*SHAPE), np.eye(4)), tmp_path / "x.img")
    assert "left and right cannot be told apart" in complaint(tmp_path / "x.img")


@pytest.mark.parametrize("slices", [1, 3])
def test_a_slab_is_refused(slices, tmp_path):
    path = scan(tmp_path / "x.nii.gz", (64, 64, slices), np.diag([3.0, 3.0, 5.0, 1.0]))
    assert complaint(path).startswith(f"only {5 * slices} mm thick, expected 20 or more")
