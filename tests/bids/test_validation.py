"""What the BIDS validator says of a dataset."""

import json
import sys
import time
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from vxmprep.bids.validation import validate


def install(monkeypatch, folder: Path, script: str, name: str = "bids-validator-deno") -> None:
    """Make a shell script the only validator there is."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))


def report(*issues: dict) -> str:
    return f"printf %s '{json.dumps({'issues': {'issues': issues}})}'; exit 16"


def issue(code: str, severity: str = "error", message: str = "what\nis wrong") -> dict:
    location = "/sub-01/x.json"
    return {"code": code, "severity": severity, "location": location, "issueMessage": message}


@pytest.fixture
def installed():
    """The real validator, where the tests' requirements are installed."""
    pytest.importorskip("bids_validator_deno")


def test_the_flaw_of_a_real_dataset_is_named_in_one_line(installed, shared_data):
    root = shared_data / "whole-head-cohort"
    assert validate(root) == (
        f"{root}: the BIDS validator finds 1 error: JSON_SCHEMA_VALIDATION_ERROR in "
        "/dataset_description.json (must be array); processing goes on"
    )


def test_nothing_is_said_of_a_valid_dataset(installed, tmp_path):
    root = tmp_path / "a dataset"
    (root / "sub-01" / "anat").mkdir(parents=True)
    description = {"Name": "made up", "BIDSVersion": "1.10.0"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    image = nb.Nifti1Image(np.ones((4, 4, 4), dtype=np.uint8), np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    nb.save(image, root / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    assert validate(root) is None
    (root / "sub-01" / "anat" / "nonsense.txt").touch()
    assert "nonsense.txt" in validate(root)


def test_errors_are_counted_and_the_first_is_named(tmp_path, monkeypatch):
    issues = [issue("NOTE", "warning"), issue("FIRST"), issue("SECOND")]
    install(monkeypatch, tmp_path, report(*issues))
    assert validate(tmp_path) == (
        f"{tmp_path}: the BIDS validator finds 2 errors; the first: FIRST in /sub-01/x.json "
        "(what); processing goes on"
    )


def test_an_issue_without_file_and_message_is_named_by_its_code(tmp_path, monkeypatch):
    install(monkeypatch, tmp_path, report({"code": "EMPTY", "severity": "error"}))
    assert "1 error: EMPTY in the dataset; processing goes on" in validate(tmp_path)


def test_warnings_alone_are_not_shown(tmp_path, monkeypatch):
    install(monkeypatch, tmp_path, report(issue("NOTE", "warning")))
    assert validate(tmp_path) is None


def test_a_validator_beside_python_is_found_without_the_path(tmp_path, monkeypatch):
    install(monkeypatch, tmp_path, report(issue("FIRST")))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert "FIRST" in validate(tmp_path)


def test_a_validator_of_the_other_name_is_used(tmp_path, monkeypatch):
    install(monkeypatch, tmp_path, report(issue("FIRST")), name="bids-validator")
    assert "FIRST" in validate(tmp_path)


def test_without_a_validator_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert validate(tmp_path) is None


@pytest.mark.parametrize(
    "script", ["exit 1", "echo no JSON", "echo []", """echo '{"issues": {"issues": [{}]}}'"""]
)
def test_a_validator_that_breaks_says_nothing(script, tmp_path, monkeypatch):
    install(monkeypatch, tmp_path, script)
    assert validate(tmp_path) is None


def test_a_validator_that_cannot_be_started_says_nothing(tmp_path, monkeypatch):
    install(monkeypatch, tmp_path, "")
    (tmp_path / "bids-validator-deno").write_text("#!/no/such/interpreter\n")
    assert validate(tmp_path) is None


def test_a_validator_that_takes_too_long_is_stopped_with_all_it_started(tmp_path, monkeypatch):
    install(monkeypatch, tmp_path, f"(sleep 1; touch '{tmp_path}/survived') & wait")
    started = time.monotonic()
    assert validate(tmp_path, timeout=0.3) is None
    assert time.monotonic() - started < 1
    time.sleep(1.2)
    assert not (tmp_path / "survived").exists()
