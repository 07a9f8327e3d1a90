"""``vxmprep-convert`` from end to end; the formats are tested with their writers."""

from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import from_matvec

from vxmprep.cli.convert import main
from vxmprep.spatial.fsl import read_flirt
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import write_affine, write_composite
from vxmprep.spatial.transform import read_itk

GRID = Grid((12, 13, 14), from_matvec(np.eye(3) * 2, [-12.0] * 3))
SCAN = Grid((15, 12, 13), from_matvec(np.diag([-2.0, 2.0, 2.0]), [14.0, -10.0, -12.0]))
AFFINE = from_matvec(np.diag([1.1, 1.0, 0.9]), [2.0, 1.0, -1.0])
XFM = "sub-1_from-T1w_to-A_mode-image_xfm.h5"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    field = np.random.default_rng(0).normal(size=(*GRID.shape, 3))
    write_composite(XFM, affine=AFFINE, displacement=field, grid=GRID, field_acts_first=True)
    write_affine("affine.txt", AFFINE)
    for name, grid in (("_space-A", GRID), ("", SCAN)):
        data = np.zeros(grid.shape, np.uint8)
        nb.save(nb.Nifti1Image(data, grid.affine), f"sub-1{name}_desc-preproc_T1w.nii.gz")
    return tmp_path


def test_a_field_of_itk_maps_the_voxels_as_the_composite(folder):
    assert main([XFM, "-o", "field.nii.gz"]) == 0
    points = GRID.world(np.argwhere(np.ones(GRID.shape)))
    np.testing.assert_allclose(read_itk("field.nii.gz")(points), read_itk(XFM)(points), atol=1e-4)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["-o", "a.mgz"], "a.mgz"),
        (["-o", "a.x5"], "a.x5"),
        (["-o", "a.nii.gz", "--format", "fsl"], "a.nii.gz"),
    ],
)
def test_the_grids_are_those_beside_the_transform(words, name, folder):
    assert main([XFM, *words]) == 0
    if name.endswith(".nii.gz"):
        np.testing.assert_allclose(nb.load(name).affine, GRID.affine, atol=1e-5)
    assert Path(name).stat().st_size > 1000


def test_affines_become_flirts_and_ltas(folder):
    images = ["-r", "sub-1_space-A_desc-preproc_T1w.nii.gz", "-m", "sub-1_desc-preproc_T1w.nii.gz"]
    assert main(["affine.txt", "-o", "a.mat", "--format", "fsl", *images]) == 0
    np.testing.assert_allclose(read_flirt("a.mat", fixed=GRID, moving=SCAN), AFFINE, atol=1e-6)
    assert main(["[affine.txt,1]", "-o", "b.txt"]) == 0
    np.testing.assert_allclose(read_itk("b.txt").affine, np.linalg.inv(AFFINE), atol=1e-9)
    assert main(["affine.txt", "-o", "a.lta", *images]) == 0
    assert "LINEAR_RAS_TO_RAS" in Path("a.lta").read_text()


def test_an_affine_that_has_no_inverse_is_named(folder, capsys):
    write_affine("flat.txt", np.diag([1.0, 1.0, 0.0, 1.0]))
    for words in (["[flat.txt,1]", "-o", "a.txt"], ["flat.txt", "-o", "a.lta"]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert f"{folder / 'flat.txt'}: its affine takes space to a plane" in said
        assert len(said.splitlines()) == 1


def test_a_place_that_cannot_be_written_to_is_named(folder, capsys):
    (folder / "file").touch()
    assert main([XFM, "-o", "file/a.mgz"]) == 2
    assert capsys.readouterr().err.startswith("vxmprep-convert: -o file/a.mgz: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([XFM, "-o", "a.lta"], "cannot hold a displacement field; .mgz can"),
        ([XFM, "-o", "a.mat"], "say --format fsl"),
        ([XFM, "-o", "a.png"], "ends with none of"),
        (["affine.txt", "-o", "A.TXT"], "-o A.TXT: ends with none of"),
        (["[affine.txt,1]", "-o", "affine.txt"], "-o affine.txt: would replace an input"),
        ([".", "-o", "out"], ".: a folder; give a transform, or --format fmriprep"),
        (["no.h5", "-o", "a.x5"], "no.h5: no such transform"),
        (
            ["affine.txt", "-o", "a.nii.gz"],
            "affine.txt: no image beside it tells the grid; give -r",
        ),
        ([XFM, "-r", "no.nii", "-o", "a.nii"], "no.nii: no such file"),
        (["sub-1_desc-preproc_T1w.nii.gz", "-o", "a.x5"], "not a displacement field"),
    ],
)
def test_bad_input_is_told_in_one_line(words, message, folder, capsys):
    before = set(folder.iterdir())
    assert main(words) == 2
    line = capsys.readouterr().err.strip()
    assert message in line
    assert len(line.splitlines()) == 1
    assert set(folder.iterdir()) == before
