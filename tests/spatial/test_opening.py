"""What is refused by looking at a file, voxels unread."""

import gzip
import os
import re
import struct
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from vxmprep.spatial.opening import ImageError, open_image

SHAPE = (24, 25, 26)
AFFINE = np.diag([-1.0, 1.2, 2.0, 1.0])


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, size=shape).astype(np.int16)


def scan(path: Path, shape: tuple[int, ...] = SHAPE, affine: np.ndarray = AFFINE) -> Path:
    nb.save(nb.Nifti1Image(noise(*shape), affine), path)
    return path


def edited(path: Path, offset: int, format_: str, *values: float) -> Path:
    """Write a scan and change bytes of its header."""
    content = bytearray(scan(path.with_name("whole.nii")).read_bytes())
    struct.pack_into(format_, content, offset, *values)
    path.write_bytes(content)
    return path


def complaint(path: Path) -> str:
    """Give why a file is refused, without the path with which the message starts."""
    with pytest.raises(ImageError) as caught:
        open_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert complaint(tmp_path / "x.nii.gz").startswith("no such file")


def test_a_file_below_a_file_is_not_there(tmp_path):
    assert complaint(scan(tmp_path / "x.nii") / "y.nii").startswith("no such file")


def test_a_link_to_annexed_content_that_is_not_here_says_how_to_get_it(tmp_path):
    path = tmp_path / "x.nii.gz"
    path.symlink_to("../../.git/annex/objects/aa/bb/MD5E-s12--0123.nii.gz/MD5E-s12--0123.nii.gz")
    assert complaint(path) == (
        "its content was not fetched; get it with datalad get or git annex get"
    )


def test_a_link_to_nowhere_says_where_it_leads(tmp_path):
    path = tmp_path / "x.nii.gz"
    path.symlink_to(tmp_path / "gone.nii.gz")
    assert f"a link to {tmp_path}/gone.nii.gz, which is not there" in complaint(path)


def test_a_link_to_itself_is_refused(tmp_path):
    path = tmp_path / "x.nii.gz"
    path.symlink_to(path)
    assert "a link to itself" in complaint(path)


@pytest.mark.parametrize(
    "pointer",
    [
        "/annex/objects/MD5E-s1234--0123456789abcdef.nii.gz\n",
        "../../.git/annex/objects/aa/bb/MD5E-s12--0123.nii.gz/MD5E-s12--0123.nii.gz",
    ],
)
def test_a_pointer_of_an_unlocked_annexed_file_says_how_to_get_it(pointer, tmp_path):
    (tmp_path / "x.nii.gz").write_text(pointer)
    assert "datalad get or git annex get" in complaint(tmp_path / "x.nii.gz")


def test_a_pointer_of_git_lfs_says_how_to_get_it(tmp_path):
    (tmp_path / "x.nii.gz").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    )
    assert "git lfs pull" in complaint(tmp_path / "x.nii.gz")


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "x.nii.gz").mkdir()
    assert complaint(tmp_path / "x.nii.gz").startswith("a folder")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "x.nii.gz").touch()
    assert complaint(tmp_path / "x.nii.gz").startswith("empty (0 bytes)")


def test_a_file_without_permission_to_read_is_refused(tmp_path):
    path = scan(tmp_path / "x.nii.gz")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        assert complaint(path).startswith("no permission to read it")
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", ["x.nii", "x.mgh"])
def test_a_text_is_refused(name, tmp_path):
    (tmp_path / name).write_text("subject\tage\n" * 50)
    assert re.search("not (that of an|a NIfTI or MGH) image", complaint(tmp_path / name))


def test_a_packed_text_is_refused(tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(b"subject\tage\n" * 50))
    assert "not a NIfTI or MGH image" in complaint(tmp_path / "x.nii.gz")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_dicom_file_is_refused_and_dcm2niix_named(name, tmp_path):
    (tmp_path / name).write_bytes(bytes(128) + b"DICM" + bytes(900))
    assert "dcm2niix" in complaint(tmp_path / name)


@pytest.mark.parametrize("start", [b"<!DOCTYPE html><html>", b"\n<html lang='en'>"])
def test_a_web_page_saved_as_a_scan_is_refused(start, tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(start + b"<body>404</body></html>")
    assert complaint(tmp_path / "x.nii.gz").startswith("a web page")


def test_a_scan_named_as_if_it_were_compressed_is_refused(tmp_path):
    scan(tmp_path / "x.nii").rename(tmp_path / "x.nii.gz")
    assert complaint(tmp_path / "x.nii.gz").startswith("not compressed")


def test_a_compressed_scan_not_named_so_is_refused(tmp_path):
    scan(tmp_path / "x.nii.gz").rename(tmp_path / "x.nii")
    assert ".nii.gz" in complaint(tmp_path / "x.nii")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.mgh", "x.mgz"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.95])
def test_a_file_that_was_cut_short_is_refused(name, kept, tmp_path):
    path = tmp_path / name
    nb.save((nb.Nifti1Image if "nii" in name else nb.MGHImage)(noise(*SHAPE), AFFINE), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    assert "cut short" in complaint(path)


def test_a_scan_that_was_cut_short_and_then_packed_is_refused(tmp_path):
    whole = scan(tmp_path / "whole.nii").read_bytes()
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(whole[:-2]))
    assert "cut short" in complaint(tmp_path / "x.nii.gz")


def test_a_gzip_file_cut_in_its_header_is_refused(tmp_path):
    path = scan(tmp_path / "x.nii.gz")
    path.write_bytes(path.read_bytes()[:60])
    assert "image" in complaint(path)


@pytest.mark.parametrize("last", [0, 1, 400, 20000])
def test_a_scan_packed_in_several_parts_passes(last, tmp_path):
    """As bgzip does it, the last part being empty."""
    whole = scan(tmp_path / "whole.nii").read_bytes()
    cut = len(whole) - last
    parts = gzip.compress(whole[:1000]) + gzip.compress(whole[1000:cut])
    (tmp_path / "x.nii.gz").write_bytes(parts + gzip.compress(whole[cut:]))
    assert open_image(tmp_path / "x.nii.gz").shape == SHAPE


def test_bytes_after_the_voxels_are_no_matter(tmp_path):
    whole = scan(tmp_path / "whole.nii").read_bytes()
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(whole + bytes(5000)))
    assert open_image(tmp_path / "x.nii.gz").shape == SHAPE


def test_a_header_that_promises_terabytes_is_refused_at_once(tmp_path):
    path = edited(tmp_path / "x.nii", 40, "<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)
    assert "promises 32767x32767x32767 voxels" in complaint(path)


@pytest.mark.parametrize("shape", [(64, 64), (24, 24, 24, 3), (24, 24, 24, 1, 2)])
def test_what_is_no_single_volume_is_refused(shape, tmp_path):
    said = complaint(scan(tmp_path / "x.nii.gz", shape))
    assert f"expected one 3-D volume, found {'x'.join(map(str, shape))}" in said


@pytest.mark.parametrize("size", [0, -5])
def test_an_axis_without_voxels_is_refused(size, tmp_path):
    path = edited(tmp_path / "x.nii", 40, "<8h", 3, size, 25, 26, 1, 1, 1, 1)
    assert "holds no voxels" in complaint(path)


@pytest.mark.parametrize("kind", [[("R", "u1"), ("G", "u1"), ("B", "u1")], np.complex64])
def test_colours_and_complex_numbers_are_refused(kind, tmp_path):
    nb.save(nb.Nifti1Image(np.zeros(SHAPE, kind), AFFINE), tmp_path / "x.nii.gz")
    assert "colours or complex" in complaint(tmp_path / "x.nii.gz")


def test_a_header_that_nibabel_cannot_read_is_refused(tmp_path):
    assert "not that of an image" in complaint(edited(tmp_path / "x.nii", 70, "<h", 999))


def test_a_surface_is_refused(tmp_path):
    nb.save(nb.gifti.GiftiImage(), tmp_path / "x.gii")
    assert "not an image of voxels" in complaint(tmp_path / "x.gii")


def test_any_single_volume_can_be_opened_whatever_its_geometry(tmp_path):
    path = scan(tmp_path / "x.nii", (4, 5, 6), np.diag([50.0, 50.0, 50.0, 1.0]))
    assert open_image(path).shape == (4, 5, 6)
