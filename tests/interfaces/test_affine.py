"""ANTs and FSL as searches for an affine: played by scripts, and the real one where it is."""

import os
import shutil
import sys
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from vxmprep.interfaces import AffineAlign
from vxmprep.interfaces.affine import ants, flirt
from vxmprep.preparation.align import TURNS, coarse, judge
from vxmprep.spatial.itk import read_affine

FLIRT = """\
import sys
from pathlib import Path
import nibabel as nb
import numpy as np
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
Path("{log}").write_text(" ".join(sys.argv[1:]))

def middle(path):
    # FSL first turns the voxels of a right-handed image about, then knows indices only.
    image = nb.load(path)
    data = image.get_fdata()
    data = data[::-1] if np.linalg.det(image.affine) > 0 else data
    index = np.indices(data.shape).reshape(3, -1) @ data.ravel() / data.sum()
    return index * image.header.get_zooms()

matrix = np.eye(4)
matrix[:3, 3] = middle(given["-ref"]) - middle(given["-in"])
np.savetxt(given["-omat"], matrix)
Path(given["-out"]).touch()
"""
"""Brings the centre of mass of -in to that of -ref."""


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Put a script on the PATH under the name of a program."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def play(name: str, text: str, interpreter: str = "/bin/sh") -> Path:
        log = tmp_path / "log"
        (folder / name).write_text(f"#!{interpreter}\n" + text.replace("{log}", str(log)))
        (folder / name).chmod(0o755)
        return log

    return play


@pytest.fixture
def play_ants(play, tmp_path):
    """antsRegistration that writes the same transform each time, and logs how it starts."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(np.diag([2.0, 1.0, 1.0]).ravel().tolist())
    transform.SetCenter((10.0, 20.0, 30.0))
    transform.SetTranslation((1.0, 3.0, 4.0))
    sitk.WriteTransform(transform, str(tmp_path / "known.mat"))
    return play(
        "antsRegistration",
        '[ "$1" = --version ] && echo "ANTs Version: 2.5.4" && exit\n'
        'echo "$@" >> {log}\ngrep ^Parameters start.txt >> {log}\n'
        f"cp {tmp_path}/known.mat transform0GenericAffine.mat\n",
    )


def blob(shape: tuple[int, ...], affine: np.ndarray, seed: int) -> nb.Nifti1Image:
    data = np.zeros(shape, np.float32)
    inside = tuple(slice(5, n - 7) for n in shape)
    data[inside] = np.random.default_rng(seed).uniform(1, 9, size=data[inside].shape)
    return nb.Nifti1Image(data, affine)


RIGHT = blob((24, 30, 28), from_matvec(np.diag([2.0, 2.0, 2.0]), [-20.0, -33.0, -25.0]), 1)
LEFT = blob((26, 22, 20), from_matvec(np.diag([-2.5, 2.5, 2.5]), [30.0, -28.0, -22.0]), 2)


def middle(image: nb.Nifti1Image) -> np.ndarray:
    index = np.argwhere(np.asarray(image.dataobj) > 0)
    return np.average(
        apply_affine(image.affine, index),
        axis=0,
        weights=np.asarray(image.dataobj)[tuple(index.T)],
    )


def test_the_affine_of_ants_is_read_as_one_of_fixed_to_moving_points(play_ants):
    # In LPS x -> 2 (x - 10) + 10 + 1, y -> y + 3, z -> z + 4.
    expected = [[2, 0, 0, 9], [0, 1, 0, -3], [0, 0, 1, 4], [0, 0, 0, 1]]
    np.testing.assert_allclose(next(ants(RIGHT, LEFT)), expected, atol=1e-9)


def test_ants_is_asked_for_an_affine_by_mutual_information(play_ants):
    next(ants(RIGHT, LEFT))
    command = play_ants.read_text()
    assert "--transform Affine[" in command
    assert "--metric MI[" in command
    assert command.index("fixed.nii") < command.index("moving.nii")


def test_ants_starts_from_the_header_and_then_from_the_other_orientations(play_ants):
    search = ants(RIGHT, LEFT)
    next(search)
    assert len(starts(play_ants)) == 1
    assert len(list(search)) == len(TURNS) - 1
    lps = np.diag([-1.0, -1.0, 1.0])
    for start, turn in zip(starts(play_ants), TURNS, strict=True):
        np.testing.assert_array_equal(start[:9].reshape(3, 3), lps @ turn @ lps)


def starts(log: Path) -> list[np.ndarray]:
    lines = [line for line in log.read_text().splitlines() if line.startswith("Parameters")]
    return [np.array([float(x) for x in line.split()[1:]]) for line in lines]


@pytest.mark.parametrize("fixed", [RIGHT, LEFT])
@pytest.mark.parametrize("moving", [RIGHT, LEFT])
def test_the_matrix_of_flirt_maps_middle_to_middle_whatever_the_grids(fixed, moving, play):
    play("flirt", FLIRT, sys.executable)
    (found,) = flirt(fixed, moving)
    expected = from_matvec(np.eye(3), middle(moving) - middle(fixed))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_flirt_is_asked_for_12_degrees_of_freedom_in_every_orientation(play):
    log = play("flirt", FLIRT, sys.executable)
    flirt(RIGHT, LEFT)
    command = log.read_text()
    assert "-dof 12" in command
    for axis in "xyz":
        assert f"-searchr{axis} -180 180" in command


@pytest.mark.parametrize("search", [ants, flirt])
def test_a_program_that_fails_is_an_error_with_its_last_word(search, play):
    for name in ("antsRegistration", "flirt"):
        play(name, "echo reading >&2; echo out of memory >&2; exit 3\n")
    with pytest.raises(RuntimeError, match=r"^\w+: failed with exit status 3: out of memory$"):
        list(search(RIGHT, LEFT))


def test_a_program_that_fails_after_it_left_a_result_is_an_error_all_the_same(play):
    play("flirt", FLIRT + "sys.exit(5)\n", sys.executable)
    with pytest.raises(RuntimeError, match="flirt: failed with exit status 5"):
        flirt(RIGHT, LEFT)


def test_a_program_that_dies_without_a_word_is_an_error(play):
    play("antsRegistration", "kill -SEGV $$\n")
    with pytest.raises(RuntimeError, match="antsRegistration: failed with exit status"):
        next(ants(RIGHT, LEFT))


@pytest.mark.parametrize(("search", "name"), [(ants, "antsRegistration"), (flirt, "flirt")])
def test_a_program_that_is_not_there_is_an_error_with_its_name(
    search, name, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    package = {"antsRegistration": "ANTs", "flirt": "FSL"}[name]
    with pytest.raises(RuntimeError, match=f"^{name}: .*not on the PATH; install {package} "):
        list(search(RIGHT, LEFT))


def test_nothing_is_left_in_the_temporary_folder(play, play_ants, tmp_path, monkeypatch):
    play("flirt", FLIRT, sys.executable)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    next(ants(RIGHT, LEFT))
    flirt(RIGHT, LEFT)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_the_node_writes_what_flirt_found(play, tmp_path, monkeypatch):
    play("flirt", FLIRT, sys.executable)
    monkeypatch.chdir(tmp_path)
    files = {}
    for name, image in (("in", LEFT), ("atlas", RIGHT)):
        mask = nb.Nifti1Image((np.asarray(image.dataobj) > 0).astype(np.uint8), image.affine)
        for kind, one in (("file", image), ("mask", mask)):
            files[f"{name}_{kind}"] = str(tmp_path / f"{name}_{kind}.nii")
            nb.save(one, files[f"{name}_{kind}"])
    files["mask_file"] = files.pop("in_mask")
    found = AffineAlign(method="flirt", **files).run().outputs
    matrix = read_affine(found.affine_file)
    np.testing.assert_allclose(matrix[:3, :3], np.eye(3), atol=1e-6)
    np.testing.assert_allclose(apply_affine(matrix, middle(RIGHT)), middle(LEFT), atol=0.5)


@pytest.fixture(scope="module")
def brains(small_brain) -> tuple[nb.Nifti1Image, nb.Nifti1Image, np.ndarray]:
    """The atlas's brain at 0 mm, the same lying otherwise, and the affine between them."""
    data = np.asarray(small_brain.dataobj)
    mask = nb.Nifti1Image((data > 0).astype(np.uint8), small_brain.affine)
    fixed = coarse(small_brain, mask)
    fixed = nb.Nifti1Image(
        fixed.get_fdata(), from_matvec(np.eye(3), -middle(fixed)) @ fixed.affine
    )
    turn = Rotation.from_euler("xyz", [14, -6, 9], degrees=True).as_matrix()
    truth = from_matvec(turn, [4.0, -3.0, 5.0])
    return fixed, nb.Nifti1Image(fixed.get_fdata(), truth @ fixed.affine), truth


@pytest.mark.skipif(not shutil.which("antsRegistration"), reason="antsRegistration is not here")
def test_the_real_ants_finds_a_known_affine_to_a_millimetre_and_the_same_bits(brains):
    fixed, moving, truth = brains
    found, again = (next(ants(fixed, moving)) for _ in range(2))
    points = apply_affine(fixed.affine, np.argwhere(fixed.get_fdata() > 0)[::50])
    error = apply_affine(found, points) - apply_affine(truth, points)
    assert np.linalg.norm(error, axis=1).max() < 1.0
    assert judge(found, moving, fixed).similarity > 0.8
    np.testing.assert_array_equal(found, again)


@pytest.mark.skipif(not shutil.which("flirt"), reason="FSL's flirt is not here")
def test_the_real_flirt_finds_a_known_affine_to_a_millimetre(brains):
    fixed, moving, truth = brains
    (found,) = flirt(fixed, moving)
    points = apply_affine(fixed.affine, np.argwhere(fixed.get_fdata() > 0)[::50])
    error = apply_affine(found, points) - apply_affine(truth, points)
    assert np.linalg.norm(error, axis=1).max() < 1.0
