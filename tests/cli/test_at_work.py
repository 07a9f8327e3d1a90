"""Options of the command at work on a small dataset."""

import json
import shutil
import tomllib

import nibabel as nb
import numpy as np
import pytest


def test_the_resources_of_every_step_are_written_where_that_is_asked(study):
    assert study.run("--resource-monitor", "--participant-label", "02", level="prepare") == 0
    (file,) = study.out.glob("logs/*/resources.tsv")
    header, *rows = [line.split("\t") for line in file.read_text().splitlines()]
    found = {row[1]: dict(zip(header, row, strict=True)) for row in rows}
    assert {"atlas", "strip", "bias", "align", "save_labels"} <= set(found)
    assert 0.05 < float(found["align"]["peak_gb"]) < 4
    assert float(found["align"]["cpu_seconds"]) > 0


def test_a_run_leaves_its_settings_and_goes_the_same_way_by_them(study):
    assert study.run("--participant-label", "02", level="prepare") == 0
    (file,) = study.out.glob("logs/*/config.toml")
    assert tomllib.loads(file.read_text())["participant_label"] == ["02"]
    from vxmprep.cli.run import main

    done = study.results()
    assert main(["--config-file", str(file), "--force"]) == 0
    assert study.results() == done


def test_the_methods_text_alone_is_printed_and_written_and_no_scan_processed(study, capsys):
    assert study.run("--boilerplate-only") == 0
    text = capsys.readouterr().out
    assert "N4" in text
    assert "### References" in text
    assert (study.out / "CITATION.md").read_text().strip() == text.strip()
    assert "@" in (study.out / "logs" / "CITATION.bib").read_text()
    assert not list(study.out.glob("sub-*"))


def test_without_a_level_of_the_scans_there_is_no_methods_text(study, capsys):
    study.out.mkdir()
    assert study.run("--boilerplate-only", level="group") == 2
    assert "name the level participant" in capsys.readouterr().err
    assert not list(study.out.iterdir())


def test_the_methods_text_of_a_run_says_what_was_seen_in_the_scans(study):
    """They came stripped: deepbet, which would have stripped others, was not used."""
    assert study.run(level="prepare") == 0
    text = (study.out / "CITATION.md").read_text()
    assert "deepbet" not in text
    assert "skull-stripped" in text


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
def test_the_workflow_of_a_scan_is_drawn(study):
    assert study.run("--write-graph", "--participant-label", "02", level="prepare") == 0
    (drawing,) = study.out.glob("logs/*/workflow.svg")
    assert "align" in drawing.read_text()


@pytest.mark.parametrize("plugin", ["Linear", "MultiProc"])
def test_a_plugin_of_nipype_keeps_the_same_records(plugin, study, tmp_path):
    file = tmp_path / "plugin.yml"
    file.write_text(f"plugin: {plugin}\nplugin_args: {{n_procs: 2}}\n")
    nb.save(nb.Nifti1Image(np.full((40, 40, 40), 7, np.int16), np.eye(4)), study.t1w("01"))
    options = ("--use-plugin", str(file), "--no-n4", "--affine", "none")
    assert study.run(*options, level="prepare") == 1
    assert study.record("sub-01")["status"] == "failed"
    assert "every voxel holds 7" in study.record("sub-01")["failure"]["cause"]
    assert study.record("sub-02")["status"] == "prepared"
    assert study.record("sub-02")["steps"]["align"]["seconds"] > 0
    assert study.run(*options, "--participant-label", "02", level="prepare") == 0


def test_the_work_folder_is_cleaned_of_other_runs_and_of_nothing_else(study):
    work = study.root / "work"
    left = work / "vxmprep-elsewhere-0123456789ab"
    (left / "vxmprep_wf").mkdir(parents=True)
    (work / "mine").mkdir()
    assert study.run("--participant-label", "02", level="prepare") == 0
    assert left.exists(), "another machine's run may be going on"
    assert study.run("--clean-workdir", "--participant-label", "02", level="prepare") == 0
    assert [path.name for path in work.iterdir()] == ["mine"]


def test_the_first_failure_ends_the_run_where_that_is_asked(study, capsys):
    study.tiny.scan(study.t1w("03"), 3)
    broken = study.t1w("01").read_bytes()
    study.t1w("01").write_bytes(broken[:-50] + bytes(50))
    options = ("--stop-on-first-crash", "--nprocs", "1")
    assert study.run(*options, level="prepare") == 1
    assert "1 failed, 2 not reached" in capsys.readouterr().out
    assert study.run(level="prepare") == 1
    assert study.record("sub-03")["status"] == "prepared"


def test_a_filter_file_and_a_kept_index_choose_the_scans(study, tmp_path):
    file = tmp_path / "filter.json"
    file.write_text(json.dumps({"t1w": {"acquisition": "fast"}}))
    folder = study.t1w("01").parent
    study.tiny.scan(folder / "sub-01_acq-fast_run-2_T1w.nii.gz", 4)
    options = ("--bids-filter-file", str(file), "--bids-database-dir", str(tmp_path / "db"))
    assert study.run(*options, level="prepare") == 0
    assert list(study.status()) == ["sub-01_acq-fast_run-2"]
    assert any((tmp_path / "db").iterdir())
    names = {path.name for path in (study.out / "sub-01" / "anat").iterdir()}
    assert "sub-01_acq-fast_run-2_desc-preproc_T1w.nii.gz" in names


def test_several_scans_of_several_sessions_are_each_processed(study):
    shutil.rmtree(study.bids / "sub-02")
    for session in ("a", "b"):
        for run in (1, 2):
            name = f"sub-02_ses-{session}_rec-norm_run-{run}_T1w.nii.gz"
            study.tiny.scan(study.bids / "sub-02" / f"ses-{session}" / "anat" / name, run)
    assert study.run("--participant-label", "02", level="prepare") == 0
    assert len(study.status()) == 4
    anat = study.out / "sub-02" / "ses-b" / "anat"
    assert (anat / "sub-02_ses-b_rec-norm_run-2_desc-brain_mask.nii.gz").is_file()


def test_a_dataset_of_links_is_processed_as_what_they_point_to(study):
    """As DataLad lays a dataset out, behind a root that is a link itself."""
    annex = study.bids / ".git" / "annex" / "objects"
    annex.mkdir(parents=True)
    content = study.t1w("02").rename(annex / "MD5E-x.nii.gz")
    study.t1w("02").symlink_to(content)
    real = study.bids.rename(study.root / "real")
    study.bids.symlink_to(real)
    study.t1w("02").unlink()
    study.t1w("02").symlink_to(real / ".git" / "annex" / "objects" / "MD5E-x.nii.gz")
    assert study.run("--participant-label", "02", level="prepare") == 0
    assert study.run("--participant-label", "02", level="prepare") == 0


def reoriented(path, axes: str) -> None:
    """Store an image in another order and direction of its axes, in the same place."""
    image = nb.load(path, mmap=False)
    turn = nb.orientations.ornt_transform(
        nb.io_orientation(image.affine), nb.orientations.axcodes2ornt(axes)
    )
    nb.save(image.as_reoriented(turn), path)


def centre(image, label: int) -> float:
    """Give how far to the right a structure lies, mm."""
    where = np.argwhere(np.asarray(image.dataobj) == label)
    return nb.affines.apply_affine(image.affine, where).mean(axis=0)[0]


def test_left_stays_left_however_a_scan_is_stored(study):
    """By the hippocampi, 17 and 53, on the scan and on the atlas's side."""
    ways = {"01": "LIA", "02": "LAS", "03": "RAS", "04": "PSR"}
    for number, (label, axes) in enumerate(ways.items(), start=1):
        reoriented(study.tiny.scan(study.t1w(label), number), axes)
        stored = study.tiny.segmentation(study.aseg(label).with_suffix(".nii"), number)
        reoriented(stored, axes)
        nb.save(nb.load(stored), study.aseg(label))
    assert study.run() == 0
    for label, axes in ways.items():
        for name in ("space-tiny_desc-aseg_dseg", "desc-atlas_dseg"):
            image = nb.load(study.out / f"sub-{label}/anat/sub-{label}_{name}.nii.gz")
            assert centre(image, 17) < centre(image, 53), axes
        assert "".join(nb.aff2axcodes(image.affine)) == axes
