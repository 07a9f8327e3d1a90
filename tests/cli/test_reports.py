"""The pages that a run leaves, and ``--reports-only``."""

import shutil

import numpy as np

import vxmprep.reports.page as pages
from vxmprep.reports import figures


def test_a_run_leaves_a_page_for_everyone_also_where_a_scan_failed_and_one_can_be_made_anew(
    study, capsys
):
    study.tiny.scan(study.t1w("03"), 3)
    study.t1w("03").write_bytes(study.t1w("03").read_bytes()[:2000])
    assert study.run() == 1
    first = {path.name: path.read_bytes() for path in study.out.glob("sub-*.html")}
    assert set(first) == {"sub-01.html", "sub-02.html", "sub-03.html"}
    assert b"Overlap of structures" in first["sub-01.html"]
    assert b"Overlap of structures" not in first["sub-02.html"]
    assert b"Failed at step" in first["sub-03.html"]
    assert study.record("sub-01")["status"] == "done"
    pictures = sorted((study.out / "sub-01" / "figures").iterdir())
    assert len(pictures) == 9
    before = study.results()

    # with settings that would do everything again, and pictures gone
    shutil.rmtree(study.out / "sub-01" / "figures")
    (study.out / "sub-01.html").unlink()
    text = (study.out / "CITATION.md").read_bytes()
    capsys.readouterr()
    assert study.run("--reports-only", "--refine-iterations", "9", "--no-n4") == 0
    assert "not registered to that atlas: 1" in capsys.readouterr().out
    assert study.results() == before
    assert (study.out / "CITATION.md").read_bytes() == text
    again = (study.out / "sub-01.html").read_text(encoding="utf-8")
    assert "at most" in again
    assert study.record("sub-03")["status"] == "failed"
    # what was done is done still
    assert study.run("--participant-label", "01", "02") == 0
    assert study.results() == before


def test_pictures_and_pages_that_fail_cost_no_registration(study, monkeypatch, capfd):
    def broken(*args, **kwargs):
        raise RuntimeError("no ink")

    # the steps run in processes of their own, so what is broken is a file
    only = ("--participant-label", "02")
    monkeypatch.setattr(pages, "render", broken)
    assert study.run(*only) == 0
    assert "sub-02.html: not written (no ink)" in capfd.readouterr().err
    assert study.record("sub-02")["status"] == "done"
    assert not (study.out / "sub-02.html").exists()
    monkeypatch.undo()
    mask = study.out / "sub-02" / "anat" / "sub-02_desc-brain_mask.nii.gz"
    image = figures.nb.load(mask)
    empty = figures.nb.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine)
    figures.nb.save(empty, mask)
    assert study.run(*only, "--reports-only") == 0
    assert "could not be drawn" in capfd.readouterr().out
    assert study.record("sub-02")["status"] == "done"
    page = (study.out / "sub-02.html").read_text(encoding="utf-8")
    assert "the brain mask is empty" in page
    assert "Deformed grid" not in page
