"""``vxmprep-apply`` from end to end; the numbers of its parts are tested with them."""

import json
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from nibabel.streamlines import Tractogram
from nibabel.streamlines import load as load_tractogram
from nibabel.streamlines import save as save_tractogram

from vxmprep.cli.apply import main
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import write_affine, write_composite, write_field
from vxmprep.spatial.transform import Transform, read_itk

SCAN = Grid((24, 26, 28), from_matvec(np.eye(3), [-10.0, -11.0, -12.0]))
ATLAS = Grid((14, 15, 16), from_matvec(np.eye(3) * 2, [-14.0, -15.0, -16.0]))
AFFINE = from_matvec(np.diag([1.1, 1.0, 0.9]), [4.0, 1.0, -2.0])


def save(path: Path, grid: Grid, data: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = np.random.default_rng(0).uniform(1, 100, grid.shape).astype(np.float32)
    nb.save(nb.Nifti1Image(made if data is None else data, grid.affine), path)
    return path


@pytest.fixture
def derivatives(tmp_path) -> Path:
    """What vxmprep leaves of a participant: a field of 3 mm to the front, and an affine."""
    root = tmp_path / "derivatives"
    stem = root / "sub-01" / "anat" / "sub-01"
    grid = ATLAS.padded(8)
    shift = np.zeros((*grid.shape, 3), np.float32)
    shift[..., 1] = 3
    save(Path(f"{stem}_desc-preproc_T1w.nii.gz"), SCAN)
    save(Path(f"{stem}_space-ATLAS_desc-preproc_T1w.nii.gz"), ATLAS)
    for a, b, affine, field, first in (
        ("T1w", "ATLAS", AFFINE, shift, True),
        ("ATLAS", "T1w", np.linalg.inv(AFFINE), -shift, False),
    ):
        write_composite(
            f"{stem}_from-{a}_to-{b}_mode-image_xfm.h5",
            affine=affine, displacement=field, grid=grid, field_acts_first=first,
        )  # fmt: skip
    return root


def xfm(derivatives: Path, start: str, end: str) -> Path:
    name = f"sub-01_from-{start}_to-{end}_mode-image_xfm.h5"
    return derivatives / "sub-01" / "anat" / name


def said(capsys) -> str:
    return capsys.readouterr().err.strip()


def test_images_and_labels_lie_on_the_atlas_under_their_names(derivatives, tmp_path):
    image = save(tmp_path / "sub-01_T2w.nii.gz", SCAN)
    (tmp_path / "sub-01_T2w.json").write_text('{"EchoTime": 0.1}')
    labels = (np.indices(SCAN.shape)[0] // 6).astype(np.int16)
    save(tmp_path / "sub-01_desc-my_dseg.nii.gz", SCAN, labels)
    out = tmp_path / "out"
    inputs = [str(image), str(tmp_path / "sub-01_desc-my_dseg.nii.gz")]
    words = ["--derivatives", str(derivatives), "--to", "ATLAS", "-o", str(out)]
    assert main(["-i", *inputs, *words]) == 0
    assert {path.name for path in out.iterdir()} == {
        "sub-01_space-ATLAS_T2w.nii.gz", "sub-01_space-ATLAS_T2w.json",
        "sub-01_space-ATLAS_desc-my_dseg.nii.gz", "sub-01_space-ATLAS_desc-my_dseg.json",
    }  # fmt: skip
    found = nb.load(out / "sub-01_space-ATLAS_desc-my_dseg.nii.gz")
    np.testing.assert_allclose(found.affine, ATLAS.affine)
    # the voxel of the scan at which a point of the atlas lies
    points = ATLAS.world(np.array([[6, 5, 7], [9, 7, 8]]))
    there = (points + np.array([0, 3, 0])) * [1.1, 1.0, 0.9] + [4.0, 1.0, -2.0]
    expected = labels[tuple(np.rint(SCAN.indices(there)).astype(int).T)]
    np.testing.assert_array_equal(found.get_fdata()[[6, 9], [5, 7], [7, 8]], expected)
    sidecar = json.loads((out / "sub-01_space-ATLAS_T2w.json").read_text())
    assert sidecar["EchoTime"] == 0.1
    assert sidecar["Transforms"] == ["sub-01_from-T1w_to-ATLAS_mode-image_xfm.h5"]
    assert sidecar["Interpolation"] == "linear"


def test_a_bright_voxel_and_the_point_at_its_centre_end_in_the_same_place(derivatives, tmp_path):
    place = np.array([[12, 14, 13]])
    data = np.zeros(SCAN.shape, np.float32)
    data[tuple(place[0])] = 1000
    image = save(tmp_path / "sub-01_T1w.nii.gz", SCAN, data)
    x, y, z = SCAN.world(place)[0]
    table = tmp_path / "sub-01_electrodes.tsv"
    table.write_text(f"x\ty\tz\n{x}\t{y}\t{z}\n")
    fine = save(tmp_path / "fine.nii", Grid((60, 60, 60), from_matvec(np.eye(3) / 2, [-15.0] * 3)))
    assert main(["-i", str(image), str(table), "--derivatives", str(derivatives), "--to", "ATLAS",
                 "-r", str(fine), "-o", str(tmp_path / "o")]) == 0  # fmt: skip
    warped = nb.load(tmp_path / "o" / "sub-01_space-ATLAS_T1w.nii.gz")
    weights = warped.get_fdata()
    centre = (np.indices(weights.shape).reshape(3, -1) * weights.ravel()).sum(1) / weights.sum()
    _, row = (tmp_path / "o" / "sub-01_space-ATLAS_electrodes.tsv").read_text().splitlines()
    point = np.array(row.split("\t"), float)
    np.testing.assert_allclose(nb.affines.apply_affine(warped.affine, centre), point, atol=0.1)
    assert np.linalg.norm(point - SCAN.world(place)[0]) > 4


def test_points_come_back(derivatives, tmp_path):
    (tmp_path / "a.csv").write_text("x,y,z\n1,2,3\n-4,5,-6\n")
    common = ["--derivatives", str(derivatives), "--participant-label", "sub-01", "01"]
    for source, target, to in (("a", "b", "ATLAS"), ("b", "c", "T1w")):
        files = ["-i", str(tmp_path / f"{source}.csv"), "-o", str(tmp_path / f"{target}.csv")]
        assert main([*files, *common, "--to", to]) == 0
    back = np.loadtxt(tmp_path / "c.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(back, [[1, 2, 3], [-4, 5, -6]], atol=1e-3)


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        ("1,2,3", "1 point"),
        ("1,2,3\n4,5,6", "2 points"),
        ("1,2,3\n1,2,", "1 of 2 points; 1 without coordinates"),
    ],
)
def test_points_are_counted(rows, count, derivatives, tmp_path, capsys):
    (tmp_path / "sub-01_a.csv").write_text(f"x,y,z\n{rows}\n")
    words = ["--derivatives", str(derivatives), "--to", "ATLAS", "-o", str(tmp_path / "o")]
    assert main(["-i", str(tmp_path / "sub-01_a.csv"), *words]) == 0
    assert capsys.readouterr().out.strip().endswith(f".csv ({count})")


@pytest.mark.parametrize("end", [".tck", ".trk"])
def test_streamlines_lie_on_the_atlas(end, derivatives, tmp_path):
    line = np.float32([[1, 2, 3], [4, 5, 6]])
    source = tmp_path / f"sub-01_tracts{end}"
    save_tractogram(Tractogram([line], affine_to_rasmm=np.eye(4)), str(source))
    words = ["--derivatives", str(derivatives), "--to", "ATLAS", "-o", str(tmp_path / "o")]
    assert main(["-i", str(source), *words]) == 0
    (found,) = load_tractogram(str(tmp_path / "o" / f"sub-01_space-ATLAS_tracts{end}")).streamlines
    expected = apply_affine(np.linalg.inv(AFFINE), line) - [0, 3, 0]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_what_lies_on_no_scan_is_named_after_the_participant(derivatives, tmp_path):
    region = save(tmp_path / "left_motor_mask.nii.gz", ATLAS)
    words = ["--derivatives", str(derivatives), "--to", "T1w", "-o", str(tmp_path / "o")]
    assert main(["-i", str(region), "--participant-label", "01", *words]) == 0
    names = {path.name for path in (tmp_path / "o").iterdir()}
    stem = "sub-01_space-T1w_desc-leftmotor_mask"
    assert names == {f"{stem}.nii.gz", f"{stem}.json"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aseg.mgz", "desc-aseg_dseg"),
        ("aparc+aseg.mgz", "desc-aparcaseg_dseg"),
        ("T2_brain.mgz", "desc-T2_brain"),
        ("aparc.a2009s+aseg.mgz", "desc-aparca2009saseg_dseg"),
        ("norm.mgz", "desc-norm_T1w"),
        ("T2.mgz", "T2"),
    ],
)
def test_volumes_of_freesurfer_get_names_of_bids(name, expected, derivatives, tmp_path):
    data = np.ones(SCAN.shape, np.float32)
    nb.save(nb.MGHImage(data, SCAN.affine), tmp_path / name)
    words = ["--derivatives", str(derivatives), "--to", "ATLAS", "-o", str(tmp_path / "o")]
    assert main(["-i", str(tmp_path / name), "--participant-label", "01", *words]) == 0
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        f"sub-01_space-ATLAS_{expected}.nii.gz", f"sub-01_space-ATLAS_{expected}.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    "labels", [["01", "sub-02"], ["01", "--participant-label", "sub-02"]], ids=["once", "twice"]
)
def test_a_region_goes_to_the_scans_of_several_participants(labels, derivatives, tmp_path):
    for path in list(derivatives.glob("sub-01/anat/*")):
        other = Path(str(path).replace("sub-01", "sub-02"))
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(path.read_bytes())
    region = save(tmp_path / "motor_mask.nii.gz", ATLAS)
    words = ["--derivatives", str(derivatives), "--to", "T1w", "-o", str(tmp_path / "o")]
    assert main(["-i", str(region), "--participant-label", *labels, *words]) == 0
    for participant in ("01", "02"):
        stem = tmp_path / "o" / f"sub-{participant}_space-T1w_desc-motor_mask"
        used = json.loads(Path(f"{stem}.json").read_text())["Transforms"]
        assert used == [f"sub-{participant}_from-ATLAS_to-T1w_mode-image_xfm.h5"]
        assert Path(f"{stem}.nii.gz").is_file()


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("sub-01_space-ATLAS_T2w.nii.gz", ["--to", "ATLAS"], "lies in ATLAS already"),
        ("sub-01_space-MNI_electrodes.tsv", ["--to", "ATLAS"], "lies in MNI already"),
        ("sub-01_space-T1w_bold.nii.gz", ["--to", "T1w"], "lies on the T1w already"),
        ("sub-01_T2w.nii.gz", ["--to", "T1w"], "name that with --from"),
        ("sub-01_space-MNI_T2w.nii.gz", ["--to", "T1w", "--from", "ATLAS"], "is another"),
        ("sub-01_space-MNI_T2w.nii.gz", ["--to", "T1w"], "no transform to T1w"),
    ],
)
def test_what_its_name_puts_elsewhere_is_not_transformed(
    name, words, message, derivatives, tmp_path, capsys
):
    source = tmp_path / name
    save(source, SCAN) if name.endswith(".gz") else source.write_text("x\ty\tz\n1\t2\t3\n")
    words = ["--derivatives", str(derivatives), *words, "-o", str(tmp_path / "o")]
    assert main(["-i", str(source), *words]) == 2
    assert message in said(capsys)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sub-01_space-T1w_desc-preproc_bold.nii.gz", ["--to", "ATLAS"]),
        ("sub-01_space-ScanRAS_T2w.nii.gz", ["--to", "ATLAS"]),
        ("sub-01_space-boldref_bold.nii.gz", ["--to", "ATLAS", "-t", "SHIFT"]),
        ("sub-01_space-ATLAS_T2w.nii.gz", ["--to", "T1w"]),
        ("sub-01_T2w.nii.gz", ["--to", "T1w", "--from", "ATLAS"]),
    ],
)
def test_what_lies_where_the_transform_starts_is_transformed(name, words, derivatives, tmp_path):
    save(tmp_path / name, SCAN)
    write_affine(tmp_path / "shift.txt", AFFINE)
    words = [str(tmp_path / "shift.txt") if word == "SHIFT" else word for word in words]
    words += ["--derivatives", str(derivatives), "-o", str(tmp_path / "o")]
    assert main(["-i", str(tmp_path / name), *words]) == 0
    assert len(list((tmp_path / "o").glob("*.nii.gz"))) == 1


def test_transforms_chain_in_the_order_of_ants(derivatives, tmp_path):
    grid = ATLAS.padded(8)
    bend = np.random.default_rng(1).normal(size=(*grid.shape, 3))
    write_field(tmp_path / "warp.nii.gz", bend, grid)
    write_affine(tmp_path / "first.txt", AFFINE)
    moving, fixed = save(tmp_path / "m.nii", SCAN), save(tmp_path / "f.nii", ATLAS)
    assert main(["-i", str(moving), "-r", str(fixed), "-t", str(tmp_path / "warp.nii.gz"),
                 "-t", f"[{tmp_path / 'first.txt'},1]", "-n", "NearestNeighbor",
                 "-o", str(tmp_path / "o.nii")]) == 0  # fmt: skip
    chain = read_itk(tmp_path / "warp.nii.gz").then(Transform((np.linalg.inv(AFFINE),)))
    indices = np.argwhere(np.ones(ATLAS.shape))
    there = SCAN.indices(chain(ATLAS.world(indices)))
    inside = ((there > 0) & (there < np.array(SCAN.shape) - 1)).all(1)
    clear = (np.abs(there % 1 - 0.5) > 0.01).all(1) & inside
    expected = nb.load(moving).get_fdata()[tuple(np.rint(there[clear]).astype(int).T)]
    found = nb.load(tmp_path / "o.nii").get_fdata()[tuple(indices[clear].T)]
    assert clear.sum() > 500
    np.testing.assert_array_equal(found, expected)


def test_points_through_named_transforms_take_the_files_beside_them(derivatives, tmp_path):
    write_affine(tmp_path / "bold_to_T1w.txt", np.diag([2.0, 1, 1, 1]))
    (tmp_path / "a.csv").write_text("x,y,z\n2,0,0\n")
    assert main(["-i", str(tmp_path / "a.csv"), "-t", str(xfm(derivatives, "T1w", "ATLAS")),
                 "-t", str(tmp_path / "bold_to_T1w.txt"),
                 "-o", str(tmp_path / "o")]) == 0  # fmt: skip
    (found,) = (tmp_path / "o").glob("*.csv")
    assert found.name == "a_space-ATLAS.csv"
    point = np.loadtxt(found, delimiter=",", skiprows=1)
    expected = read_itk(xfm(derivatives, "ATLAS", "T1w"))(np.array([[1.0, 0.0, 0.0]]))[0]
    np.testing.assert_allclose(point, expected, atol=1e-3)


def test_a_failed_input_leaves_the_others(derivatives, tmp_path, capsys):
    good = save(tmp_path / "sub-01_T2w.nii.gz", SCAN)
    (tmp_path / "sub-01_bad.csv").write_text("a,b\n1,2\n")
    assert main(["-i", str(tmp_path / "sub-01_bad.csv"), str(good), "--derivatives",
                 str(derivatives), "--to", "ATLAS", "-o", str(tmp_path / "o")]) == 1  # fmt: skip
    line = said(capsys)
    assert "sub-01_bad.csv: no columns x, y and z" in line
    assert len(line.splitlines()) == 1
    assert (tmp_path / "o" / "sub-01_space-ATLAS_T2w.nii.gz").is_file()


def test_an_image_beside_the_grid_is_a_failure_and_leaves_no_file(derivatives, tmp_path, capsys):
    away = Grid(SCAN.shape, from_matvec(np.eye(3), [900.0, 0.0, 0.0]))
    beside = save(tmp_path / "sub-01_T2w.nii.gz", away)
    empty = save(tmp_path / "sub-01_label-lesion_mask.nii.gz", SCAN, np.zeros(SCAN.shape, "u1"))
    words = ["--derivatives", str(derivatives), "--to", "ATLAS", "-o", str(tmp_path / "o")]
    assert main(["-i", str(beside), str(empty), *words]) == 1
    line = said(capsys)
    assert f"{beside}: nothing of it reaches the grid wanted" in line
    assert len(line.splitlines()) == 1
    names = {path.name for path in (tmp_path / "o").iterdir()}
    assert names == {f"sub-01_space-ATLAS_label-lesion_mask{end}" for end in (".nii.gz", ".json")}


@pytest.mark.parametrize("end", [".csv", ".surf.gii", ".tck"])
@pytest.mark.parametrize(("start", "to"), [("", "ATLAS"), ("_space-ATLAS", "T1w")])
def test_points_far_from_the_field_are_a_failure_and_leave_no_file(
    start, to, end, derivatives, tmp_path, capsys
):
    def put(folder: str, x: float) -> str:
        path = tmp_path / folder / f"sub-01{start}_points{end}"
        path.parent.mkdir()
        points = np.float32([[x, 0, 0], [x, 900, 0], [x, 0, 900]])
        if end == ".tck":
            save_tractogram(Tractogram([points], affine_to_rasmm=np.eye(4)), str(path))
        elif end == ".csv":
            np.savetxt(path, points, delimiter=",", header="x,y,z", comments="")
        else:
            arrays = [nb.gifti.GiftiDataArray(points, "NIFTI_INTENT_POINTSET")]
            nb.save(nb.GiftiImage(darrays=arrays), path)
        return str(path)

    words = ["--derivatives", str(derivatives), "--to", to, "-o", str(tmp_path / "o")]
    assert main(["-i", put("far", -130.0), *words]) == 1
    line = said(capsys)
    assert f"_points{end}: none of its points lies within 50 mm of the transform's field" in line
    assert len(line.splitlines()) == 1
    assert not (tmp_path / "o").exists()
    assert main(["-i", put("near", -50.0), *words]) == 0  # outside the head, as electrodes are


def test_masks_may_be_blended(derivatives, tmp_path):
    mask = save(tmp_path / "sub-01_mask.nii.gz", SCAN)
    words = ["--derivatives", str(derivatives), "--to", "ATLAS", "-o", str(tmp_path / "o")]
    assert main(["-i", str(mask), *words, "-n", "linear"]) == 0


def test_a_result_that_cannot_be_written_is_named_and_an_odd_sidecar_left_out(
    derivatives, tmp_path, capsys
):
    image = save(tmp_path / "sub-01_T2w.nii.gz", SCAN)
    image.with_name("sub-01_T2w.json").write_text("[1]")
    words = ["-i", str(image), "--derivatives", str(derivatives), "--to", "ATLAS", "-o"]
    (tmp_path / "x").touch()
    assert main([*words, str(tmp_path / "x" / "o")]) == 1
    assert said(capsys).endswith(f"{image}: {tmp_path / 'x' / 'o'}: Not a directory")
    assert main([*words, str(tmp_path / "o")]) == 0
    sidecar = json.loads((tmp_path / "o" / "sub-01_space-ATLAS_T2w.json").read_text())
    assert sidecar["Sources"] == ["sub-01_T2w.nii.gz"]


BAD = {
    "no transform": (["-i", "IMAGE", "-o", "o"], "no transform given"),
    "to without derivatives": (["-i", "IMAGE", "--to", "ATLAS", "-o", "o"], "go together"),
    "no such derivatives": (
        ["-i", "IMAGE", "--to", "ATLAS", "--derivatives", "none", "-o", "o"],
        "--derivatives none: no such folder",
    ),
    "no such transform": (["-i", "IMAGE", "-t", "no.h5", "-r", "IMAGE", "-o", "o"], "no.h5: no"),
    "no reference": (["-i", "IMAGE", "-t", "AFFINE", "-o", "o"], "on which grid"),
    "no such image": (["-i", "no.nii", "-t", "no.txt", "-o", "o"], "no.nii: no such file; check"),
    "no such reference": (
        ["-i", "POINTS", "-t", "AFFINE", "-r", "no.nii", "-o", "o"],
        "-r no.nii: no such file; check the path",
    ),
    "modulated points": (
        ["-i", "POINTS", "-t", "AFFINE", "--modulate", "-o", "o"],
        "a.csv: --modulate is for images; leave it out",
    ),
    "unknown kind": (["-i", "a.dcm", "-t", "AFFINE", "-o", "o"], "a.dcm: of no known kind"),
    "no such table": (["-i", "no.csv", "-t", "AFFINE", "-o", "o"], "no.csv: no such file"),
    "one file for two": (
        ["-i", "IMAGE", "LABELS", "-t", "AFFINE", "-r", "IMAGE", "-o", "o.nii"],
        "one file for several results",
    ),
    "one transform for two participants": (
        ["-i", "POINTS", "--participant-label", "1", "2", "-t", "AFFINE", "-o", "o"],
        "--participant-label: -t is the same for all; give one label",
    ),
    "one participant's for two": (
        ["-i", "MASK", "--participant-label", "1", "2", "--derivatives=.", "--to=T1w", "-o", "o"],
        "sub-01_mask.nii: is one participant's by its name",
    ),
    "another kind of file": (
        ["-i", "IMAGE", "-t", "AFFINE", "-r", "IMAGE", "-o", "o.csv"],
        "-o o.csv: must end with .nii.gz or .nii",
    ),
    "the input itself": (
        ["-i", "IMAGE", "-t", "AFFINE", "-r", "IMAGE", "-o", "IMAGE"],
        "would replace an input",
    ),
    "the same twice": (
        ["-i", "IMAGE", "IMAGE", "-t", "AFFINE", "-r", "IMAGE", "-o", "o"],
        "would both write",
    ),
    "one sidecar for two": (
        ["-i", "POINTS", "SAME", "-t", "AFFINE", "-r", "IMAGE", "-o", "o"],
        "would both write o/a_space-reference.json; give them in two calls",
    ),
    "the transform itself": (
        ["-i", "IMAGE", "-t", "WARP", "-r", "IMAGE", "-o", "WARP"],
        "warp.nii.gz: would replace an input",
    ),
    "the sidecar of the input": (
        ["-i", "IMAGE", "-t", "AFFINE", "-r", "IMAGE", "-o", "sub-01_T1w.nii.gz"],
        "sub-01_T1w.json: would replace the sidecar of an input",
    ),
    "blended labels": (
        ["-i", "LABELS", "-t", "AFFINE", "-r", "IMAGE", "-n", "cubic", "-o", "o"],
        "sub-01_dseg.nii: -n cubic would blend the numbers of its labels; give -n nearest",
    ),
    "a modulated mask": (
        ["-i", "MASK", "-t", "AFFINE", "-r", "IMAGE", "--modulate", "-o", "o"],
        "labels cannot be modulated; if it is a map of amounts, give -n linear\n",
    ),
    "modulated labels": (
        ["-i", "LABELS", "-t", "AFFINE", "-r", "IMAGE", "--modulate", "-o", "o"],
        "give -n linear, and a name that is not of labels\n",
    ),
    "points without a way back": (
        ["-i", "POINTS", "-t", "WARP", "-o", "o"],
        "points need the opposite",
    ),
    "a transform that is none": (
        ["-i", "POINTS", "-t", "IMAGE", "-o", "o"],
        "not a displacement field",
    ),
    "FLIRT's matrix": (
        ["-i", "IMAGE", "-t", "FLIRT", "-r", "IMAGE", "-o", "o"],
        "give what vxmprep-convert flirt.mat -r REFERENCE -m MOVING --format itk -o OUT.txt",
    ),
    "FSL's warp": (
        ["-i", "POINTS", "-t", "FNIRT", "-o", "o"],
        "give what vxmprep-convert fnirt.nii.gz -r REFERENCE -m MOVING --format itk -o OUT.nii.gz",
    ),
    "vectors": (["-i", "WARP", "-t", "AFFINE", "-r", "IMAGE", "-o", "o"], "hold vectors"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_one_line(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "sub-01_T1w.nii", SCAN)
    save(tmp_path / "sub-01_dseg.nii", SCAN)
    save(tmp_path / "sub-01_mask.nii", SCAN)
    write_affine(tmp_path / "affine.txt", AFFINE)
    write_field(tmp_path / "warp.nii.gz", np.zeros((*ATLAS.shape, 3)), ATLAS)
    (tmp_path / "a.csv").write_text("x,y,z\n1,2,3\n")
    save(tmp_path / "other" / "a.nii", SCAN)
    (tmp_path / "flirt.mat").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    nb.save(nb.Nifti1Image(np.zeros((*ATLAS.shape, 3), np.float32), ATLAS.affine), "fnirt.nii.gz")
    before = set(tmp_path.iterdir())
    names = {"IMAGE": "sub-01_T1w.nii", "LABELS": "sub-01_dseg.nii", "AFFINE": "affine.txt",
             "WARP": "warp.nii.gz", "POINTS": "a.csv", "FLIRT": "flirt.mat",
             "FNIRT": "fnirt.nii.gz", "SAME": "other/a.nii",
             "MASK": "sub-01_mask.nii"}  # fmt: skip
    words, message = BAD[case]
    assert main([names.get(word, word) for word in words]) == 2
    line = capsys.readouterr().err
    assert message in line
    assert len(line.splitlines()) == 1
    assert set(tmp_path.iterdir()) == before
