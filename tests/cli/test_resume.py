"""What is done is not done again, and what is affected by a change is."""

import json
import os
import shutil
import socket

import pytest
import torch

import vxmprep.cli.execute as execution
from vxmprep.morph.checkpoint import save_checkpoint
from vxmprep.morph.frame import Frame
from vxmprep.morph.model import Model
from vxmprep.morph.network import VxmNet

BRAIN = {"strip", "bias", "save_brain"}
ALIGN = {"align", "conform", "save_align"}
LABELS = {"conform_labels", "save_labels"}
PREVIEW = {"preview", "save_preview"}
REGISTER = {"register", "save_register"}
REPORT = {"draw", "save_report"}
EVALUATE = REPORT | {
    "warp_t1w", "warp_mask", "carry_labels", "jacobian", "warp_atlas_labels", "evaluate",
    "save_evaluate",
}  # fmt: skip
ALL = BRAIN | ALIGN | LABELS | PREVIEW | REGISTER | EVALUATE


@pytest.fixture
def steps(study, monkeypatch):
    """Run the command and give the steps of each scan that were run, by its name."""
    asked = []

    class Listening(execution.Listener):
        def __call__(self, node, status, usage=None):
            if status == "start" and node.name != "atlas":
                asked.append((self.tasks[node.fullname.split(".")[1]].scan.stem, node.name))
            super().__call__(node, status, usage)

    monkeypatch.setattr(execution, "Listener", Listening)

    def run(*more, level="participant", code=0) -> dict[str, set[str]]:
        asked.clear()
        assert study.run(*more, level=level) == code
        return {scan: {step for who, step in asked if who == scan} for scan, _ in asked}

    return run


def test_a_run_goes_on_from_what_is_done_and_does_what_is_affected_by_a_change(study, steps):
    """One story, because each part of it is a run: first run, second, prepare, changes."""
    assert steps(level="prepare") == {
        scan: BRAIN | ALIGN | LABELS | PREVIEW for scan in ("sub-01", "sub-02")
    }
    prepared = study.results()
    assert {row["status"] for row in study.status().values()} == {"prepared"}
    assert any("res-network_desc-conformed_T1w.nii.gz" in name for name in prepared)
    assert any("sub-01_space-tiny_res-network_desc-conformed_dseg" in name for name in prepared)
    assert {name.partition("desc-")[2] for name in prepared if name.endswith(".webp")} == {
        "mask_T1w.webp", "atlas_T1w.webp", "affine_T1w.webp", "contours_T1w.webp",
    }  # fmt: skip

    assert steps() == {scan: REGISTER | EVALUATE for scan in ("sub-01", "sub-02")}
    done = study.results()
    assert {name: done[name] for name in prepared} == prepared
    assert study.record("sub-01")["status"] == "done"

    assert steps() == {}
    assert steps(level="prepare") == {}
    assert study.results() == done

    # no image is opened for that: one without sense but of the same size and time goes unnoticed
    sound, when = study.t1w("01").read_bytes(), study.t1w("01").stat().st_mtime_ns
    for content in (bytes(len(sound)), sound):
        study.t1w("01").write_bytes(content)
        os.utime(study.t1w("01"), ns=(when, when))
        assert steps() == {}

    # a file that is only copied anew is the same file
    os.utime(study.t1w("01"), (0, 0))
    assert steps() == {}

    study.tiny.segmentation(study.aseg("01"), 3)
    assert steps() == {"sub-01": LABELS | EVALUATE}

    study.tiny.scan(study.t1w("02"), 7)
    assert steps() == {"sub-02": ALL}

    assert steps("--refine-iterations", "6") == {
        scan: REGISTER | EVALUATE for scan in ("sub-01", "sub-02")
    }
    lost = study.out / "sub-02/anat/sub-02_space-tiny_desc-jacobian_map.nii.gz"
    lost.unlink()
    assert steps("--refine-iterations", "6") == {"sub-02": EVALUATE}
    assert lost.is_file()
    picture = study.out / "sub-02/figures/sub-02_space-tiny_desc-grid_T1w.webp"
    shown = picture.read_bytes()
    picture.unlink()
    assert steps("--refine-iterations", "6") == {"sub-02": REPORT}
    assert picture.read_bytes() == shown

    study.aseg("01").unlink()
    assert steps("--refine-iterations", "6") == {"sub-01": LABELS | EVALUATE}
    assert not list(study.out.glob("sub-01/anat/*_desc-aseg_dseg.*"))
    assert not list(study.out.glob("sub-01/anat/*conformed_dseg.*"))

    again = [*study.options, "--refine-iterations", "6"]
    atlas = again[again.index("--atlas-labels") + 1]
    study.tiny.segmentation(type(study.root)(atlas), 0)
    assert steps("--refine-iterations", "6") == {
        scan: PREVIEW | EVALUATE for scan in ("sub-01", "sub-02")
    }

    assert steps("--refine-iterations", "6", "--participant-label", "02", "--force") == {
        "sub-02": ALL
    }


def test_another_atlas_keeps_what_does_not_depend_on_it_and_the_results_of_the_first(study, steps):
    only = ("--participant-label", "01")
    steps(*only)
    study.tiny.atlas(study.root / "other")
    other = ("--atlas", str(study.root / "other" / "atlas.nii.gz"), "--atlas-name", "other")
    assert steps(*only, *other) == {"sub-01": ALL - BRAIN}
    names = {path.name for path in (study.out / "sub-01" / "anat").iterdir()}
    for space in ("tiny", "other"):
        assert f"sub-01_space-{space}_desc-preproc_T1w.nii.gz" in names
    # desc-atlas_dseg has no space in its name: it is the other atlas's now, and nothing else is
    assert steps(*only) == {}


def test_a_dataset_and_an_output_that_were_moved_are_still_done(study, steps):
    steps()
    moved = type(study)(study.tiny, study.root.with_name("moved"), ())
    shutil.move(study.root, moved.root)
    options = [option.replace(str(study.root), str(moved.root)) for option in study.options]
    moved = type(study)(study.tiny, moved.root, tuple(options))
    assert moved.run() == 0
    (run,) = [path for path in (moved.out / "logs").iterdir() if path.is_dir()]
    assert "config.toml" in {path.name for path in run.iterdir()}


def test_a_record_says_what_a_result_came_from(study, steps):
    steps("--participant-label", "01")
    record = study.record("sub-01")
    brain = record["stages"]["brain"]
    assert brain["inputs"][0]["size"] == study.t1w("01").stat().st_size
    assert len(brain["inputs"][0]["sha256"]) == 64
    register = record["stages"]["register tiny"]
    assert register["settings"]["Settings"]["RefineIterations"] == 5
    assert register["version"]
    files = {path for stage in record["stages"].values() for path in stage["files"].values()}
    written = {name for name in study.results() if not name.endswith(".json")}
    assert written == {name for name in files if not name.endswith(".json")}
    sidecar = study.out / "sub-01/anat/sub-01_desc-preproc_T1w.json"
    assert "Atlas" not in json.loads(sidecar.read_text())


def test_content_that_was_dropped_after_its_scan_was_done_is_not_missed(study, steps, tmp_path):
    """As ``datalad drop`` leaves it: a link to nowhere, which still names the content."""
    for number, path in enumerate((study.t1w("01"), study.aseg("01"))):
        content = tmp_path / f"MD5E-s1--{number}.gz"
        path.rename(content)
        path.symlink_to(content)
    only = ("--participant-label", "01")
    steps(*only)
    done = study.results()
    for content in tmp_path.glob("MD5E-*"):
        content.rename(content.with_name(f"dropped-{content.name}"))
    assert steps(*only) == {}
    assert study.results() == done

    # the scan is fetched again, the segmentation is not: what was made of it stays
    (tmp_path / "dropped-MD5E-s1--0.gz").rename(tmp_path / "MD5E-s1--0.gz")
    (study.out / "sub-01/figures/sub-01_space-tiny_desc-grid_T1w.webp").unlink()
    assert steps(*only) == {"sub-01": REPORT}
    assert study.results() == done
    assert steps(*only, "--force")["sub-01"] >= BRAIN
    assert not list(study.out.glob("sub-01/anat/*_desc-aseg_dseg.nii.gz")), "it was told"
    study.t1w("01").unlink()
    study.t1w("01").symlink_to(tmp_path / "MD5E-s1--another.gz")
    assert steps(*only, code=1) == {}
    assert "which is not there" in study.record("sub-01")["failure"]["cause"]


def test_what_a_run_killed_at_once_was_writing_is_removed_when_it_goes_on(study, steps):
    only = ("--participant-label", "02", "--no-n4", "--affine", "none")
    steps(*only, level="prepare")
    done = study.results()
    dead = study.root / "work" / f"vxmprep-{socket.gethostname()}-{'0' * 12}"
    dead.mkdir(parents=True)
    (dead / "lock").touch()
    half = study.out / "sub-02" / "anat" / f".{'0' * 32}.sub-02_desc-preproc_T1w.nii.gz"
    other = half.with_name(f".{'1' * 32}.sub-02_desc-preproc_T1w.nii.gz")
    for file in (half, other):
        file.touch()
    steps(*only, level="prepare")
    assert not half.exists()
    assert other.exists(), "another run may be writing it"
    other.unlink()
    assert study.results() == done


def save_network(path, seed: int) -> None:
    torch.manual_seed(seed)
    save_checkpoint(Model(VxmNet((4, 4), (4, 4, 4)), Frame(spacing=2), {}), path)


def test_another_network_under_the_same_name_registers_anew(study, steps, tmp_path):
    only = ("--participant-label", "01")
    model = tmp_path / "net.pt"
    save_network(model, seed=1)
    steps(*only, "--model", str(model))
    assert steps(*only, "--model", str(model)) == {}
    save_network(model, seed=2)
    assert steps(*only, "--model", str(model)) == {"sub-01": REGISTER | EVALUATE}
