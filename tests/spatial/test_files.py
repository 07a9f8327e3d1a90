"""Files that are either whole or not there."""

import hashlib
import os

import pytest

from vxmprep.spatial.files import RUN, checksum, remove_left_behind, replacing


def fail_halfway(path):
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk full")


def test_a_file_appears_under_its_name_with_its_folder(tmp_path):
    path = tmp_path / "a" / "b" / "x.nii.gz"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk full"):
        fail_halfway(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_name_keeps_the_suffixes_by_which_writers_choose_a_format(tmp_path):
    with replacing(tmp_path / "x.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == tmp_path
        temporary.write_text("")


def test_the_checksum_is_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"brain" * 100_000)
    assert checksum(tmp_path / "x") == hashlib.sha256(b"brain" * 100_000).hexdigest()


def test_what_a_killed_writer_left_is_removed_once_it_is_old(tmp_path):
    with replacing(tmp_path / "sub-01_T1w.nii.gz") as temporary:
        temporary.touch()
        old, mine = temporary.name, tmp_path / ".profile"
    left = tmp_path / old
    for name in (old, old.replace("sub-01", "sub-02"), ".profile"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    fresh = tmp_path / old.replace("T1w", "mask")
    fresh.touch()
    remove_left_behind(tmp_path, "sub-01")
    assert not left.exists()
    assert fresh.exists()
    assert mine.exists()
    assert (tmp_path / old.replace("sub-01", "sub-02")).exists()
    remove_left_behind(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "sub-01_T1w.nii.gz", ".profile", fresh.name,
    }  # fmt: skip


def test_what_a_run_left_that_is_known_to_be_dead_is_removed_at_once(tmp_path, monkeypatch):
    for run in ("0123456789ab", "ba9876543210"):
        monkeypatch.setenv(RUN, run)
        with replacing(tmp_path / "x.nii.gz") as temporary:
            temporary.touch()
            left = temporary.name
        (tmp_path / left).touch()
    remove_left_behind(tmp_path, dead=["0123456789ab"])
    assert {path.name for path in tmp_path.iterdir()} == {"x.nii.gz", left}
