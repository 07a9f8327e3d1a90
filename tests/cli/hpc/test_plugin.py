"""nipype's own SLURM plugin, a job for every step."""

import json

import nibabel as nb
import numpy as np
import pytest


@pytest.mark.hpc
def test_every_step_is_a_job_and_the_scan_whose_job_is_killed_is_named(
    slurm, study, tmp_path_factory, monkeypatch, capfd
):
    monkeypatch.delenv("LOGNAME", raising=False)
    small = study.t1w("02").read_bytes()
    image = nb.load(study.t1w("02"))
    fine = np.asarray(image.dataobj).repeat(6, 0).repeat(6, 1).repeat(6, 2)
    nb.save(
        nb.Nifti1Image(fine, image.affine @ np.diag([1 / 6, 1 / 6, 1 / 6, 1])), study.t1w("02")
    )
    plugin = study.root / "plugin.yml"
    plugin.write_text("plugin: SLURM\nplugin_args: {sbatch_args: --mem=900M}\n")
    work = tmp_path_factory.mktemp("work")
    shared = ("--use-plugin", str(plugin), "-w", str(work), "--omp-nthreads", "1")
    assert study.run(*shared) == 1
    told = capfd.readouterr().err
    assert "FAILED sub-02: its job" in told, told
    assert "killed for memory or time perhaps; see sbatch_args" in told
    assert study.record("sub-01")["status"] == "done"
    assert study.record("sub-02")["failure"]["step"]
    assert slurm.ask("squeue", "--noheader") == ""
    study.t1w("02").write_bytes(small)
    plugin.write_text(json.dumps({"plugin": "SLURM"}))  # what the steps are estimated to need
    assert study.run(*shared) == 0, capfd.readouterr().err
    assert study.record("sub-02")["status"] == "done"


def test_a_work_folder_that_the_plugin_cannot_do_with_is_refused(study, capfd):
    plugin = study.root / "plugin.yml"
    plugin.write_text("plugin: SLURM\n")
    assert study.run("--use-plugin", str(plugin)) == 2
    assert "cannot do with a space in it" in capfd.readouterr().err
