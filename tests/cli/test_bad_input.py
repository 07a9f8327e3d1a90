"""What is wrong with the input is said in one line: which file, what is wrong, what to do."""

import base64
import gzip
import json
import os
import pickle
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from vxmprep.cli.run import main

AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system")
NOT_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE, code: int = 1) -> None:
    image = nb.Nifti1Image(data, None if code == 0 else affine)
    if code:
        image.set_sform(affine, code)
        image.set_qform(affine, code)
    nb.save(image, path)


def no_link_to_annex(path: Path) -> None:
    path.unlink()
    path.symlink_to("../../.git/annex/objects/aa/bb/MD5E-s1--c/MD5E-s1--c.nii.gz")


def infinite(path: Path) -> None:
    write(path, np.full((40, 40, 40), np.inf, np.float32))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def promises_more(path: Path) -> None:
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[42:48] = np.array([400, 400, 400], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))


def scaled_voxels(path: Path) -> None:
    write(path, np.asarray(nb.load(path).dataobj), np.diag([1e-3, 1e-3, 1e-3, 1.0]))


def all_nan(path: Path) -> None:
    write(path, np.full((40, 40, 40), np.nan, np.float32))


BAD_SCANS: dict[str, tuple[Callable[[Path], object], str]] = {
    "not fetched": (no_link_to_annex, "content was not fetched; get it with datalad get"),
    "zero bytes": (lambda path: path.write_bytes(b""), "empty (0 bytes)"),
    "no NIfTI": (lambda path: path.write_bytes(gzip.compress(b"hello" * 100)), "not a NIfTI"),
    "truncated": (cut_short, "cut short"),
    "fewer voxels than promised": (promises_more, "its header promises 400x400x400"),
    "two dimensions": (lambda path: write(path, np.ones((64, 64), np.int16)), "found 64x64"),
    "a series": (
        lambda path: write(path, np.ones((32, 32, 32, 5), np.int16)),
        "found 32x32x32x5",
    ),
    "absurd voxel sizes": (scaled_voxels, "mm"),
    "no orientation": (
        lambda path: write(path, np.asarray(nb.load(path).dataobj), code=0),
        "sform",
    ),
}
"""What headers and sizes tell, before any work."""

BAD_VOXELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "constant": (lambda path: write(path, np.full((40, 40, 40), 7, np.int16)), "holds 7"),
    "nothing finite": (all_nan, "not finite"),
    "infinite": (infinite, "not finite"),
}
"""What only the voxels tell."""


@pytest.mark.parametrize("kind", BAD_SCANS)
def test_a_bad_scan_is_named_before_long_work_and_costs_no_other_scan(kind, study, capsys):
    spoil, said = BAD_SCANS[kind]
    spoil(study.t1w("01"))
    assert study.run("--no-n4", "--affine", "none", level="prepare") == 1
    told = capsys.readouterr()
    (failed,) = [line for line in told.err.splitlines() if line.startswith("FAILED")]
    assert failed.startswith(f"FAILED sub-01: {study.t1w('01')}: ")
    assert said in failed
    assert told.out.index("sub-01: failed") < told.out.index("sub-02: done")
    assert study.record("sub-01")["status"] == "failed"
    assert study.record("sub-02")["status"] == "prepared"


@pytest.mark.parametrize("kind", BAD_VOXELS)
def test_bad_voxels_are_named_and_cost_no_other_scan(kind, study, capsys):
    spoil, said = BAD_VOXELS[kind]
    spoil(study.t1w("01"))
    assert study.run("--no-n4", "--affine", "none", level="prepare") == 1
    (failed,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("FAILED")]
    assert failed.startswith(f"FAILED sub-01: {study.t1w('01')}: ")
    assert said in failed
    assert study.record("sub-02")["status"] == "prepared"


def test_a_series_of_one_volume_is_a_scan(study):
    image = nb.load(study.t1w("02"))
    write(study.t1w("02"), np.asarray(image.dataobj)[..., None], image.affine)
    assert study.run("--participant-label", "02", level="prepare") == 0


def test_voxels_that_are_not_finite_are_told_as_a_doubt(study, capsys):
    image = nb.load(study.t1w("02"))
    data = np.asarray(image.dataobj, np.float32).copy()
    data[:3, 0, 0] = np.nan, np.inf, -np.inf
    write(study.t1w("02"), data, image.affine)
    assert study.run("--participant-label", "02") == 0
    said = "scan: 3 voxels are not finite and count as 0"
    assert f"sub-02: CHECK {said}" in capsys.readouterr().out
    assert said in study.status()["sub-02"]["flags"]


def tissues(study) -> None:
    labels = np.asarray(study.tiny.labels)
    write(study.aseg("01").with_suffix(".nii"), np.clip(labels, 0, 3), study.tiny.affine)
    nb.save(nb.load(study.aseg("01").with_suffix(".nii")), study.aseg("01"))


def elsewhere(study) -> None:
    far = study.tiny.affine.copy()
    far[:3, 3] += 300
    nb.save(nb.MGHImage(study.tiny.labels.astype(np.int32), far), study.aseg("01"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(tissues, "tissue classes"), (elsewhere, "0% of the segmentation lies in")],
    ids=["tissue classes", "another scan's"],
)
def test_a_segmentation_that_is_none_of_this_scan_is_left_out_and_told(spoil, said, study, capsys):
    spoil(study)
    assert study.run("--participant-label", "01") == 0
    assert any(said in line for line in capsys.readouterr().out.splitlines() if "CHECK" in line)
    assert not list(study.out.glob("sub-01/anat/*_desc-aseg_dseg.nii.gz"))


def test_a_segmentation_on_another_grid_is_placed_by_its_own_affine(study):
    coarse = study.tiny.labels[::2, ::2, ::2]
    affine = study.tiny.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    nb.save(nb.MGHImage(coarse.astype(np.int32), affine), study.aseg("01"))
    assert study.run("--participant-label", "01") == 0
    assert list(study.out.glob("sub-01/anat/*_space-tiny_desc-aseg_dseg.nii.gz"))


def refused(study, capsys, *more: str, level: str = "participant") -> str:
    """Run a command that cannot be, and give its one line."""
    assert study.run(*more, level=level) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert not study.out.exists()
    return told.err.removeprefix("vxmprep: ")


def test_a_freesurfer_folder_without_the_participant_is_told_and_the_scan_registered(
    study, capsys
):
    shutil.rmtree(study.freesurfer / "sub-01")
    assert study.run("--participant-label", "01", level="prepare") == 0
    assert "no segmentation of sub-01" in capsys.readouterr().err


def test_a_segmentation_that_was_not_fetched_is_told_and_the_scan_registered(study, capsys):
    no_link_to_annex(study.aseg("01"))
    only = ("--participant-label", "01")
    assert study.run(*only, level="prepare") == 0
    told = capsys.readouterr().err
    assert f"{study.aseg('01')}: content not fetched" in told
    assert "no segmentation of" not in told


def test_a_mask_that_was_not_fetched_fails_its_scan_before_any_work(study, capsys):
    for label in ("01", "02"):
        write(study.mask(label), (study.tiny.brain > 0).astype(np.uint8), study.tiny.affine)
    no_link_to_annex(study.mask("02"))
    quick = ("--no-n4", "--affine", "none", "-d", str(study.root / "masks"))
    assert study.run(*quick, level="prepare") == 1
    (failed,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("FAILED")]
    assert failed.startswith(f"FAILED sub-02: {study.mask('02')}: its content was not fetched")
    assert study.record("sub-01")["status"] == "prepared"


def test_a_path_that_is_not_utf8_is_named(study, capsys):
    folder = os.fsdecode(os.fsencode(study.root) + b"/caf\xe9")
    study.bids.rename(folder)
    assert main([folder, str(study.out), "participant", *study.options]) == 2
    said = capsys.readouterr().err
    assert "caf\\udce9': a path that is not UTF-8" in said
    assert said.count("\n") == 1


def test_a_freesurfer_folder_without_the_participant_cannot_give_its_mask(study, capsys):
    said = refused(study, capsys, "--skull-strip", "freesurfer")
    assert said.startswith("--skull-strip freesurfer: no brain mask for sub-01 and 1 more")


def test_an_unknown_participant_is_named(study, capsys):
    assert "sub-99" in refused(study, capsys, "--participant-label", "99")


def test_a_folder_that_is_no_dataset_is_named(study, capsys):
    (study.bids / "dataset_description.json").unlink()
    assert refused(study, capsys).startswith(f"{study.bids}: not a BIDS dataset")


def test_a_dataset_without_a_t1w_is_named(study, capsys):
    for label in ("01", "02"):
        study.t1w(label).unlink()
    assert refused(study, capsys).startswith(f"{study.bids}: no T1w scan found")


def test_an_atlas_that_cannot_be_fetched_names_the_ways_out(study, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    said = refused(study, capsys, "--atlas", "OASIS30ANTs", "--atlas-name", "x")
    assert said.startswith("--atlas OASIS30ANTs: ")
    assert "TEMPLATEFLOW_HOME" in said
    assert "--atlas FILE" in said


def test_an_atlas_that_holds_labels_is_named(study, capsys):
    labels = study.options[study.options.index("--atlas-labels") + 1]
    assert "holds labels, not intensities" in refused(study, capsys, "--atlas", labels)


class Hostile:
    """A pickle that makes a file when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def keras_with_code(model: Path, touched: Path) -> None:
    """Write a Keras file of the original's kind whose layer is code, as Keras stores lambdas."""
    import marshal

    import h5py

    code = marshal.dumps(compile(f"open({str(touched)!r}, 'w')", "layer", "eval"))
    function = [base64.b64encode(code).decode(), None, None]
    layer = {"class_name": "Lambda", "config": {"name": "x", "function": function}}
    with h5py.File(model, "w") as file:
        config = {"class_name": "VxmDense", "config": {"layers": [layer]}}
        file.attrs["model_config"] = json.dumps(config)
        file.create_group("model_weights").attrs["layer_names"] = [b"x"]


KINDS = ["text", "hostile", "hostile Keras", "network of another kind"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_is_none_is_named_and_runs_nothing(kind, study, capsys, tmp_path):
    name = "net.h5" if kind == "hostile Keras" else "net.pt"
    model, touched = tmp_path / name, tmp_path / "touched"
    if kind == "text":
        model.write_text("weights")
    elif kind == "hostile":
        model.write_bytes(pickle.dumps(Hostile(touched)))
    elif kind == "hostile Keras":
        keras_with_code(model, touched)
    else:
        import torch

        torch.save({"weight": torch.zeros(3)}, model)
    assert refused(study, capsys, "--model", str(model)).startswith(f"--model {model}: ")
    assert not touched.exists()


@pytest.mark.parametrize("text", ["- SLURM", "plugin: slurm"])
def test_a_plugin_file_that_names_none_is_named(text, study, capsys, tmp_path):
    file = tmp_path / "plugin.yml"
    file.write_text(text)
    assert study.run("--use-plugin", str(file)) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"vxmprep: --use-plugin {file}: ")


def test_a_dataset_and_an_output_that_are_swapped_are_noticed(study, capsys):
    study.out.mkdir()
    description = '{"GeneratedBy": [{"Name": "vxmprep"}]}'
    (study.out / "dataset_description.json").write_text(description)
    assert main([str(study.out), str(study.root / "new"), "participant"]) == 2
    assert "are BIDS_DIR and OUTPUT_DIR swapped?" in capsys.readouterr().err


def test_an_output_that_cannot_be_made_is_named(study, capsys):
    options = ["-w", str(study.root / "w"), "--skip-bids-validation"]
    assert main([str(study.bids), "/proc/new", "prepare", *options]) == 2
    assert capsys.readouterr().err.startswith("vxmprep: /proc/new: ")


def test_memory_that_is_less_than_a_registration_takes_is_told(study, capsys):
    only = ("--participant-label", "02", "--mem-mb", "500")
    assert study.run(*only, level="prepare") == 0
    assert "--mem-mb 500: a registration takes about 3600" in capsys.readouterr().err


@pytest.mark.parametrize("makers", ['[{"Name": "x"}]', "null", '["x"]', "{"])
def test_an_output_of_another_program_is_left_alone(makers, study, capsys):
    study.out.mkdir()
    (study.out / "dataset_description.json").write_text(f'{{"GeneratedBy": {makers}}}')
    assert study.run() == 2
    assert capsys.readouterr().err.startswith(f"vxmprep: {study.out}: holds another dataset")
    assert [path.name for path in study.out.iterdir()] == ["dataset_description.json"]


@NOT_ROOT
@pytest.mark.parametrize("what", ["out", "work"])
def test_a_folder_that_may_not_be_written_is_named(what, study, capsys):
    (study.root / what).mkdir(mode=0o500)
    assert study.run() == 2
    assert "Permission denied" in capsys.readouterr().err


@pytest.fixture
def mounted(tmp_path):
    """Mount a small file system, and take it away again."""
    places = []

    def mount(place: Path, options: str) -> None:
        place.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting is not allowed here")
        places.append(place)

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=False)


@ROOT
@pytest.mark.parametrize("what", ["out", "work"])
def test_a_disk_that_fills_up_ends_the_run_in_one_line_and_later_it_goes_on(
    what, study, capsys, mounted
):
    """The first scan fits; the disk is full in the middle of the second."""
    mounted(study.root / what, "size=2500k" if what == "out" else "size=1500k")
    assert study.run("--nprocs", "1") == 1
    told = capsys.readouterr()
    assert "the disk is full; free some space and run the same command again" in told.err
    assert "Traceback" not in told.err
    subprocess.run(["mount", "-o", "remount,size=500m", str(study.root / what)], check=True)
    assert study.run() == 0


@ROOT
def test_an_output_that_is_mounted_read_only_is_named(study, capsys, mounted):
    mounted(study.out, "ro,size=1m")
    assert study.run() == 2
    assert str(study.out) in capsys.readouterr().err


@ROOT
def test_a_dataset_that_may_only_be_read_is_processed(study, mounted):
    held = study.root / "held"
    study.bids.rename(held)
    mounted(study.bids, "size=50m")
    shutil.copytree(held, study.bids, dirs_exist_ok=True)
    subprocess.run(["mount", "-o", "remount,ro", str(study.bids)], check=True)
    assert study.run("--participant-label", "02", level="prepare") == 0


def test_a_file_that_may_grow_no_further_ends_the_run_in_one_line(study, capsys):
    """As a disk quota does; where mounting is not allowed it stands for the full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        code = main(study.arguments("--participant-label", "02"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    told = capsys.readouterr()
    assert code == 1
    assert "the disk is full" in told.err
    assert "Traceback" not in told.err
