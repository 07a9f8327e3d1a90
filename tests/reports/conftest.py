"""An output folder of one participant, two sessions, one done and one failed; and a browser."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pytest

from vxmprep.bids.records import Record, Stage
from vxmprep.evaluation.report import as_tsv, dice_table
from vxmprep.reports.scan import draw_scan
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import write_composite

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SPACE = "tiny"
METRICS = {
    "Flags": ["the affine is <doubtful> & \"odd\""],
    "Affine": {"Similarity": 0.5, "Scales": [1.0, 0.9, 1.1], "RotationDegrees": 4.0, "Starts": 3},
    "Deformable": {"LocalCorrelation": [0.61, 0.82], "InverseResidualP99mm": 0.31,
                   "InverseResidualMaxmm": 1.5},
    "Similarity": {"LocalCorrelation": 0.843, "MutualInformation": 0.9},
    "InverseConsistency": {"Meanmm": 0.1, "P99mm": 0.44, "Maxmm": 1.9},
    "Folding": {"FoldedVoxels": 7, "MaskVoxels": 70000, "FoldedPercent": 0.01,
                "JacobianMin": -0.2, "JacobianMax": 4.0},
    "Overlap": {"Reference": "atlas", "Structures": 3, "StructuresAbsent": 27,
                "DiceMeanAffine": 0.6543, "DiceMean": 0.7654},
    "Quality": {
        "Verdict": "warn",
        "Reasons": [{"Verdict": "warn", "Reason": "folding in 7 voxels"}],
    },
}  # fmt: skip
SETTINGS = {
    "Settings": {"SkullStrip": "auto", "BiasCorrection": "N4", "Affine": "greedy",
                 "RefineIterations": 50},
    "Atlas": {"Name": SPACE, "Image": {"File": "tiny.nii.gz", "SHA256": "ab" * 32},
              "Labels": {"File": "labels.nii.gz", "SHA256": "cd" * 32}},
    "Model": "none",
}  # fmt: skip


@pytest.fixture(scope="session")
def written(tmp_path_factory, small_brain) -> dict[str, Path]:
    """Files of a scan that is the atlas, moved by 6 mm."""
    folder = tmp_path_factory.mktemp("written")
    mask = nb.Nifti1Image((np.asarray(small_brain.dataobj) > 0).astype(np.uint8),
                          small_brain.affine)  # fmt: skip
    moved = nb.affines.from_matvec(np.eye(3), (6, 0, 0))
    scan = nb.Nifti1Image(np.asarray(small_brain.dataobj), moved @ small_brain.affine)
    paths = {name: folder / f"{name}.nii" for name in ("t1w", "mask", "atlas", "atlas_mask")}
    nb.save(scan, paths["t1w"])
    nb.save(nb.Nifti1Image(np.asarray(mask.dataobj), scan.affine), paths["mask"])
    nb.save(small_brain, paths["atlas"])
    nb.save(mask, paths["atlas_mask"])
    paths["forward"] = folder / "forward.h5"
    write_composite(
        paths["forward"],
        affine=moved,
        displacement=np.zeros((*mask.shape, 3), np.float32),
        grid=Grid.of(mask),
        field_acts_first=True,
    )
    return paths


@pytest.fixture(scope="session")
def drawn(tmp_path_factory, written) -> tuple[dict[str, Path], list[str]]:
    """What is drawn of these files, with labels and a determinant that is no image."""
    folder = tmp_path_factory.mktemp("drawn")
    atlas = nb.load(written["atlas"])
    labels = np.zeros(atlas.shape, np.int16)
    labels[20:40, 20:50, 20:40] = 1035  # a parcel of the cortex
    labels[25:30, 30:40, 25:35] = 10
    nb.save(nb.Nifti1Image(labels, atlas.affine), folder / "labels.nii")
    (folder / "jacobian.nii").write_bytes(b"no image")
    (folder / "dice.tsv").write_text(as_tsv(dice_table(labels, labels, labels, reference="x")[0]))
    more = {"atlas_labels": "labels.nii", "labels_in_atlas": "labels.nii", "dice": "dice.tsv",
            "jacobian": "jacobian.nii"}  # fmt: skip
    return draw_scan({**written, **{key: folder / name for key, name in more.items()}}, folder)


@pytest.fixture
def output(tmp_path, drawn) -> Path:
    """The output folder; its name is what users may choose."""
    out = tmp_path / "an öutput #1"
    anat, figures = out / "sub-01" / "ses-a" / "anat", out / "sub-01" / "figures"
    for folder in (anat, figures):
        folder.mkdir(parents=True)
    names = ("t1w", "mask", "affine", "forward", "metrics", "dice")
    made = {name: anat / f"sub-01_ses-a_{name}" for name in names}
    for path in made.values():
        path.write_text("x")
    made["metrics"].write_text(json.dumps(METRICS))
    labels = np.repeat([0, 10, 49, 16], 50).reshape(2, 10, 10)
    rows, _ = dice_table(labels, np.roll(labels, 20), np.roll(labels, 5), reference="atlas (tiny)")
    made["dice"].write_text(as_tsv(rows))
    shown = {}
    for name, path in drawn[0].items():
        shown[name] = figures / f"sub-01_ses-a_{name}{path.suffix}"
        shown[name].write_bytes(path.read_bytes())
    scan = tmp_path / "sub-01_ses-a_T1w.nii.gz"
    scan.write_text("scan")
    record, sums = Record.of(out, "sub-01_ses-a"), {str(scan): "ef" * 32}
    for name, keys, inputs, after in (
        ("brain", ("t1w", "mask"), (scan,), ""),
        ("align", ("affine",), (), "brain"),
        ("labels", (), (), "align"),
        ("register", ("forward",), (), "align"),
        ("evaluate", ("metrics", "dice"), (scan,), "register"),
        ("report", (), (), "evaluate"),
    ):
        stage = Stage(name, "" if name == "brain" else SPACE, SETTINGS, inputs, after)
        files = shown if name == "report" else {key: made[key] for key in keys}
        flags = {"evaluate": METRICS["Flags"], "report": drawn[1]}.get(name, [])
        more = {"strip_method": "deepbet"} if name == "brain" else {}
        record.took(name, seconds=2.5, cpu_seconds=2.0, peak_gb=1.25)
        record.finish(stage, files=files, checksums=sums, flags=flags, **more)
    crash = out / "logs" / "20260101-120000-abc" / "crash-1.txt"
    crash.parent.mkdir()
    crash.write_text("Node: x\nTraceback\nValueError: the <scan> is empty\n")
    failed = Record.of(out, "sub-01_ses-b")
    failed.fail(
        step="align", cause="the <scan> is empty", crash=f"{crash.parent.name}/crash-1.txt"
    )
    return out


@pytest.fixture
def tab() -> Iterator[Any]:
    """A page of a headless Chromium; it notes what goes wrong and all that it asks for."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = os.environ.get("VXMPREP_TEST_BROWSER") or next(
        filter(None, map(shutil.which, BROWSERS)), None
    )
    if program is None:
        pytest.skip("no Chromium is at hand; set VXMPREP_TEST_BROWSER")
    options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=options)
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.set_default_timeout(120_000)
        tab.wrong, tab.asked = [], []
        tab.on("pageerror", lambda error: tab.wrong.append(str(error)))
        tab.on(
            "console",
            lambda said: said.type in ("error", "warning") and tab.wrong.append(said.text),
        )
        tab.on("request", lambda request: tab.asked.append(request.url))
        yield tab
        browser.close()
