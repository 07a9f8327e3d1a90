"""Packing scans, and reading them back."""

import errno
import io
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
import torch
from filelock import FileLock

from vxmprep.morph.frame import Frame
from vxmprep.training import packing
from vxmprep.training.cohort import open_cohort
from vxmprep.training.errors import TrainingError


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nb.load(path).dataobj)


def temporaries(folder: Path) -> list[Path]:
    return list(folder.glob(".*"))


def test_every_scan_reads_back_as_in_its_file(brains, tmp_path, told):
    cohort = open_cohort(brains.scans, brains.grid, tmp_path / "c", tell=told)
    assert [entry.name for entry in cohort.entries] == [scan.name for scan in brains.scans]
    for index, scan in enumerate(brains.scans):
        np.testing.assert_array_equal(cohort.image(index), voxels(scan.image))
        np.testing.assert_array_equal(cohort.labels_of(index), voxels(scan.labels))
    assert "8 scans of 8 participants, 8 with labels, 0 left out" in told.text


def test_scans_without_labels_are_marked_and_take_no_room(brains, tmp_path):
    scans = [replace(scan, labels=None) if i else scan for i, scan in enumerate(brains.scans)]
    cohort = open_cohort(scans, brains.grid, tmp_path / "c")
    assert cohort.labels.shape[0] == 1
    assert cohort.labels_of(0) is not None
    assert all(cohort.labels_of(index) is None for index in range(1, 8))
    none = open_cohort([replace(scan, labels=None) for scan in scans], brains.grid, tmp_path / "c")
    assert none.labels is None
    assert not (tmp_path / "c" / packing.LABELS).exists()


def test_at_two_millimetres_images_are_what_a_network_is_given(brains, tmp_path):
    cohort = open_cohort(brains.scans[:2], brains.grid, tmp_path / "c", voxel_size=2)
    image = torch.from_numpy(voxels(brains.scans[0].image)).float()[None, None] / 255
    expected = Frame(spacing=2).enter(image)[0, 0].numpy()
    assert np.abs(cohort.image(0) / 255 - expected).max() <= 0.5 / 255 + 1e-6
    labels = voxels(brains.scans[0].labels)[::2, ::2, ::2]
    np.testing.assert_array_equal(cohort.labels_of(0), labels)


def test_a_second_run_reads_no_scan_again(brains, tmp_path, monkeypatch):
    first = open_cohort(brains.scans, brains.grid, tmp_path / "c")
    monkeypatch.setattr(packing, "read_image", None)
    again = open_cohort(brains.scans, brains.grid, tmp_path / "c")
    assert again.fingerprint == first.fingerprint


def test_a_changed_scan_is_packed_anew(brains, tmp_path):
    copy = tmp_path / "copy.nii.gz"
    copy.write_bytes(brains.scans[0].image.read_bytes())
    scans = [replace(brains.scans[0], image=copy), *brains.scans[1:3]]
    first = open_cohort(scans, brains.grid, tmp_path / "c")
    copy.write_bytes(brains.scans[5].image.read_bytes())
    again = open_cohort(scans, brains.grid, tmp_path / "c")
    assert again.fingerprint != first.fingerprint
    np.testing.assert_array_equal(again.image(0), voxels(brains.scans[5].image))


def test_an_unreadable_scan_in_the_middle_is_named_left_out_and_counted(brains, tmp_path, told):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(brains.scans[1].image.read_bytes()[:4000])
    scans = [brains.scans[0], replace(brains.scans[1], image=broken), *brains.scans[2:4]]
    cohort = open_cohort(scans, brains.grid, tmp_path / "c", tell=told)
    assert list(cohort.left_out) == ["sub-02"]
    assert "1 left out" in told.text
    assert "left out: sub-02: " in told.text
    np.testing.assert_array_equal(cohort.image(1), voxels(brains.scans[2].image))
    assert len(np.load(tmp_path / "c" / packing.IMAGES)) == 3


def test_a_scan_on_another_grid_is_left_out(brains, tmp_path, told):
    moved = tmp_path / "moved.nii.gz"
    affine = brains.grid.affine.copy()
    affine[0, 3] += 1
    nb.save(nb.Nifti1Image(voxels(brains.scans[0].image), affine), moved)
    scans = [replace(brains.scans[0], image=moved), brains.scans[1]]
    cohort = open_cohort(scans, brains.grid, tmp_path / "c", tell=told)
    assert "on another grid" in cohort.left_out["sub-01"]


def test_labels_that_cannot_be_used_leave_the_scan_in(brains, tmp_path, told):
    scans = [replace(brains.scans[0], labels=tmp_path / "absent.nii.gz"), brains.scans[1]]
    cohort = open_cohort(scans, brains.grid, tmp_path / "c", tell=told)
    assert cohort.labels_of(0) is None
    assert "used without its labels: sub-01" in told.text


def test_no_scan_at_all_is_refused(brains, tmp_path, refused):
    scans = [replace(brains.scans[0], image=tmp_path / "absent.nii.gz")]
    message = refused(TrainingError, open_cohort, scans, brains.grid, tmp_path / "c")
    assert "no scan to train on: 1 left out" in message
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["lock"]


def test_two_scans_of_one_name_are_refused(brains, tmp_path, refused):
    scans = [brains.scans[0], brains.scans[0]]
    assert "sub-01" in refused(TrainingError, open_cohort, scans, brains.grid, tmp_path / "c")


def test_a_full_disk_is_one_error_and_leaves_nothing(brains, tmp_path, monkeypatch, refused):
    class Full(packing._Writer):
        def add(self, scan, *args):
            if scan.name == "sub-03":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().add(scan, *args)

    monkeypatch.setattr(packing, "_Writer", Full)
    message = refused(TrainingError, open_cohort, brains.scans, brains.grid, tmp_path / "c")
    assert "the disk is full" in message
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["lock"]


def test_packing_that_fails_leaves_the_old_cohort(brains, tmp_path, monkeypatch, refused, told):
    old = open_cohort(brains.scans[:2], brains.grid, tmp_path / "c")

    class Full(packing._Writer):
        def finish(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(packing, "_Writer", Full)
    refused(TrainingError, open_cohort, brains.scans, brains.grid, tmp_path / "c")
    again = open_cohort(brains.scans[:2], brains.grid, tmp_path / "c", tell=told)
    assert again.fingerprint == old.fingerprint
    assert "packing" not in told.text


def test_a_packed_cohort_serves_when_its_sources_are_gone(brains, tmp_path, told):
    scans = []
    for scan in brains.scans[:3]:
        files = {}
        for name in ("image", "labels"):
            source = getattr(scan, name)
            files[name] = tmp_path / source.name
            files[name].write_bytes(source.read_bytes())
        scans.append(replace(scan, **files))
    before = open_cohort(scans, brains.grid, tmp_path / "c")
    scans[1].image.unlink()
    scans[2].labels.unlink()
    after = open_cohort(scans, brains.grid, tmp_path / "c", tell=told)
    assert after.fingerprint == before.fingerprint
    assert "2 files of the scans are no longer there; going on with" in told.text
    fewer = open_cohort(scans[1:], brains.grid, tmp_path / "c")
    assert list(fewer.left_out) == ["sub-02"]


def test_trainings_that_share_a_cohort_take_turns(brains, tmp_path, told):
    folder = tmp_path / "c"
    folder.mkdir()
    with ThreadPoolExecutor() as pool:
        with FileLock(folder / "lock"):
            made = pool.submit(open_cohort, brains.scans[:2], brains.grid, folder, tell=told)
            limit = time.monotonic() + 30
            while not told and time.monotonic() < limit:
                time.sleep(0.01)
            assert not made.done()
        assert len(made.result(timeout=30).entries) == 2
    assert told[0].startswith("waiting for another training")


def test_a_cohort_of_somebody_else_can_be_read(brains, tmp_path, monkeypatch):
    first = open_cohort(brains.scans[:2], brains.grid, tmp_path / "c")

    def denied(self, timeout=None):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.lock_file)

    monkeypatch.setattr(FileLock, "acquire", denied)
    again = open_cohort(brains.scans[:2], brains.grid, tmp_path / "c")
    assert again.fingerprint == first.fingerprint


def test_files_of_two_cohorts_are_not_taken_for_one(brains, tmp_path, monkeypatch):
    """The new images are there, but not the new labels: both cohorts have files of one size."""
    open_cohort(brains.scans[:2], brains.grid, tmp_path / "c")
    original = Path.replace

    def failing(self, target):
        if Path(target).name == packing.LABELS:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="Input/output"):
        open_cohort(brains.scans[2:4], brains.grid, tmp_path / "c")
    monkeypatch.undo()
    cohort = open_cohort(brains.scans[:2], brains.grid, tmp_path / "c")
    np.testing.assert_array_equal(cohort.image(0), voxels(brains.scans[0].image))


def test_what_killed_runs_left_is_removed(brains, tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / f".0123.{packing.IMAGES}").write_bytes(b"half")
    open_cohort(brains.scans[:2], brains.grid, folder)
    assert not temporaries(folder)


def test_a_damaged_volume_is_noticed(brains, tmp_path, refused):
    open_cohort(brains.scans[:3], brains.grid, tmp_path / "c")
    with (tmp_path / "c" / packing.IMAGES).open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"\x99")
    cohort = open_cohort(brains.scans[:3], brains.grid, tmp_path / "c")
    cohort.image(0)
    assert "damaged" in refused(TrainingError, cohort.image, 2)


def test_files_cut_short_are_packed_anew(brains, tmp_path):
    open_cohort(brains.scans[:3], brains.grid, tmp_path / "c")
    path = tmp_path / "c" / packing.IMAGES
    path.write_bytes(path.read_bytes()[:-5])
    cohort = open_cohort(brains.scans[:3], brains.grid, tmp_path / "c")
    np.testing.assert_array_equal(cohort.image(2), voxels(brains.scans[2].image))


def test_reading_samples_opens_no_file(brains, tmp_path):
    cohort = open_cohort(brains.scans, brains.grid, tmp_path / "c")
    before = len(list(Path("/proc/self/fd").iterdir()))
    kept = [cohort.image(index) for index in range(8)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert len(kept) == 8


def test_a_header_is_as_long_for_no_volume_as_for_many():
    """It is written first and last, before volumes that stay where they are."""
    one, other = io.BytesIO(), io.BytesIO()
    packing._write_header(one, np.uint8, 0, (4, 5, 6))
    packing._write_header(other, np.uint8, 123456, (4, 5, 6))
    assert one.tell() == other.tell()


def test_the_index_tells_sources_and_checksums(brains, tmp_path):
    open_cohort(brains.scans[:2], brains.grid, tmp_path / "c")
    found = json.loads((tmp_path / "c" / packing.INDEX).read_text())
    status = brains.scans[0].image.stat()
    source = [str(brains.scans[0].image), status.st_size, status.st_mtime_ns]
    assert found["wanted"]["scans"][0][3] == source
    assert found["entries"][0]["name"] == "sub-01"
