"""The whole chain on a real Slurm: real scans at a third of their size, a short training."""

import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from vxmprep.cli.slurm import main

pytestmark = pytest.mark.hpc

PEOPLE = [f"{number:02d}" for number in range(1, 9)]

TRAINING = (
    "--voxel-size", "2", "--iterations", "3", "--features", "4,4:4,4,4", "--validate-every", "2",
    "--learning-rate", "0.001", "--device", "cpu",
)  # fmt: skip


@pytest.fixture
def cohort(study, shared_data):
    """Eight scans of a real cohort at a third of their size, which fits the small atlas."""
    for label in ("01", "02"):
        study.t1w(label).unlink()
        study.aseg("01").unlink(missing_ok=True)
    for label in PEOPLE:
        name = f"sub-{label}/anat/sub-{label}_T1w.nii.gz"
        image = nb.load(shared_data / "training-cohort" / name)
        affine = image.affine.copy()
        data = np.asarray(image.dataobj)[::3, ::3, ::3]
        affine[:3, 3] /= 3
        study.t1w(label).parent.mkdir(parents=True, exist_ok=True)
        nb.save(nb.Nifti1Image(data, affine), study.t1w(label))
    return study


def options(study, *more):
    """Give the options of a study, less those of one machine."""
    words = [*study.options]
    for name in ("-w", "--nprocs", "--omp-nthreads", "--device"):
        at = words.index(name)
        del words[at : at + 2]
    return [*words, *more]


def slurm_command(study, levels, *more):
    return main([str(study.bids), str(study.out), *levels, *options(study, *TRAINING, *more)])


def logs(study) -> dict[str, str]:
    folder = study.out / "code" / "slurm" / "logs"
    return {path.name: path.read_text() for path in folder.glob("*.log")}


def all_logs(study) -> str:
    return "\n".join(f"== {name}\n{text}" for name, text in logs(study).items())


def states(study) -> dict[str, str]:
    return {name: row["status"] for name, row in study.status().items()}


def enlarge(path):
    """Cut the voxels of a scan into 64 each: it takes more memory than the others' jobs have."""
    image = nb.load(path)
    fine = np.asarray(image.dataobj).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    nb.save(nb.Nifti1Image(fine, image.affine @ np.diag([0.25, 0.25, 0.25, 1])), path)


LEVELS = ("prepare", "train", "participant", "group")


def test_one_fails_and_one_is_killed_and_the_rest_is_complete_then_only_these_are_done(
    slurm, cohort, capfd
):
    good = cohort.t1w("03").read_bytes()
    cohort.t1w("03").write_bytes(b"not an image")
    enlarge(cohort.t1w("05"))
    few = ("--width", "1", "--mem-mb", "1400", "--train-nprocs", "1")
    assert slurm_command(cohort, LEVELS, *few, "--submit") == 0
    said = capfd.readouterr().out
    # Slurm here takes four tasks an array.
    assert re.findall(r"^(\w+) \d+$", said, re.MULTILINE) == [
        "prepare", "prepare", "train", "participant", "participant", "group",
    ]  # fmt: skip
    slurm.wait()
    status = main([str(cohort.bids), str(cohort.out), "--status"])
    told = capfd.readouterr()
    assert status == 1
    assert re.search(r"done +6\n", told.out), told.out + told.err + all_logs(cohort)
    assert "trained, 3 iterations" in told.out
    assert "FAILED sub-03: " in told.err
    assert re.search(r"FAILED sub-05: .*memory.*--mem-mb", told.err), told.err
    assert states(cohort) == {
        f"sub-{label}": "failed" if label in ("03", "05") else "done" for label in PEOPLE
    }
    left_out = json.loads((cohort.out / "models/cohort/card.json").read_text())["left_out"]
    assert set(left_out) == {"sub-03", "sub-05"}
    rows = (cohort.out / "group_registration.tsv").read_text()
    assert {f"sub-{label}" for label in PEOPLE} == set(re.findall("^sub-..", rows, re.MULTILINE))
    before = cohort.results()

    cohort.t1w("03").write_bytes(good)
    enough = ("--width", "4", "--mem-mb", "8000", "--train-nprocs", "1")
    assert slurm_command(cohort, LEVELS, *enough, "--submit") == 0
    said = capfd.readouterr().out
    assert "1 task for 2 participants" in said
    assert re.findall(r"^(\w+) \d+$", said, re.MULTILINE) == ["prepare", "participant", "group"]
    slurm.wait()
    assert main([str(cohort.bids), str(cohort.out), "--status"]) == 0, all_logs(cohort)
    assert set(states(cohort).values()) == {"done"}
    after = cohort.results()
    assert {name: after[name] for name in before if "sub-05" not in name} == {
        name: content for name, content in before.items() if "sub-05" not in name
    }

    assert slurm_command(cohort, LEVELS, *enough, "--submit") == 0
    assert re.findall(r"^(\w+) \d+$", capfd.readouterr().out, re.MULTILINE) == ["group"]
    slurm.wait()


@pytest.mark.parametrize("where", ["installed", "in the image"])
def test_the_signal_before_the_end_of_a_jobs_time_ends_it_with_what_is_finished_recorded(
    slurm, cohort, capfd, request, where
):
    more = [] if where == "installed" else ["--image", request.getfixturevalue("image")]
    assert slurm_command(cohort, ["participant"], "--width", "8", *more, "--submit") == 0
    end = time.monotonic() + 300
    while "done, 1 of 8" not in all_logs(cohort):
        assert time.monotonic() < end, all_logs(cohort)
        time.sleep(0.2)
    (job,) = re.findall(r"^participant (\d+)$", capfd.readouterr().out, re.MULTILINE)
    slurm.ask("scancel", "--batch", "--signal=TERM", job)  # as --signal=B:TERM@90 does
    slurm.wait(60)
    (log,) = logs(cohort).values()
    assert "vxmprep: interrupted; the same command goes on from here" in log
    assert main([str(cohort.bids), str(cohort.out), "--status"]) == 1
    assert "was interrupted, by the end of its time" in capfd.readouterr().err
    done = [name for name, state in states(cohort).items() if state == "done"]
    assert "sub-01" in done
    assert len(done) < 8
    assert slurm_command(cohort, ["participant"]) == 0
    assert f"for {8 - len(done)} participants" in capfd.readouterr().out
    left = Path(tempfile.gettempdir(), f"vxmprep-{os.getuid()}")
    assert not list(left.glob("vxmprep-*"))


def test_in_the_image_too_the_chain_ends_and_who_was_killed_is_named(slurm, cohort, image, capfd):
    enlarge(cohort.t1w("02"))
    people = ("--participant-label", "01", "02", "03")
    few = ("--width", "1", "--mem-mb", "1400", "--train-nprocs", "1", "--image", image)
    assert slurm_command(cohort, LEVELS, *people, *few, "--submit") == 0
    slurm.wait()
    capfd.readouterr()
    assert main([str(cohort.bids), str(cohort.out), *people, "--status"]) == 1
    told = capfd.readouterr()
    assert re.search(r"done +2\n", told.out), told.out + told.err + all_logs(cohort)
    assert "trained, 3 iterations" in told.out
    assert re.search(r"FAILED sub-02: .*memory.*--mem-mb", told.err), told.err
    assert "apptainer exec" in (cohort.out / "code" / "slurm" / "participant.sh").read_text()
    rows = (cohort.out / "group_registration.tsv").read_text()
    assert set(re.findall("^sub-..", rows, re.MULTILINE)) == {"sub-01", "sub-02", "sub-03"}


def test_the_status_says_why_jobs_wait(slurm, cohort, capfd):
    later = ("--width", "4", "--sbatch=--begin=now+1hour", "--submit")
    assert slurm_command(cohort, ["prepare", "participant"], *later) == 0
    jobs = dict(re.findall(r"^(\w+) (\d+)$", capfd.readouterr().out, re.MULTILINE))
    try:
        slurm.ask("scontrol", "hold", f"{jobs['prepare']}_1")
        end, told = time.monotonic() + 60, ""
        while "BeginTime" not in told:  # as soon as Slurm has looked at the job
            assert time.monotonic() < end, told
            assert main([str(cohort.bids), str(cohort.out), "--status"]) == 1
            told = capfd.readouterr().out
        (prepare,) = re.findall(r"^  prepare: (.*)$", told, re.MULTILINE)
        assert sorted(prepare.split(", ")) == ["1 pending (BeginTime)", "1 pending (JobHeldAdmin)"]
        assert "  participant: 2 pending (Dependency)\n" in told
    finally:
        slurm.ask("scancel", *jobs.values())
    slurm.wait(60)


def test_a_job_with_a_gpu_has_it_for_itself(slurm, tmp_path):
    script = tmp_path / "gpu.sh"
    script.write_text('#!/bin/bash\necho "$CUDA_VISIBLE_DEVICES"; sleep 3\n')
    for number in (1, 2):
        subprocess.run(
            ["sbatch", "--mem=100", "--gres=gpu:1", f"--output={tmp_path}/{number}", script],
            check=True,
        )  # fmt: skip
    slurm.wait()
    assert sorted((tmp_path / n).read_text() for n in ("1", "2")) == ["0\n", "1\n"]
