"""The demo's own parts: what it makes, reads and says."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from vxmprep.cli import demo


@pytest.fixture
def layout(tmp_path):
    return demo.Layout(tmp_path / "out")


@pytest.fixture
def simulated(layout, monkeypatch):
    """Make the dataset without the atlas, noting what is asked for."""
    asked = []

    def simulate(place, *, subjects, seed):
        place.truth.mkdir(parents=True)
        asked.append((subjects, seed))

    monkeypatch.setattr(demo, "_simulate", simulate)
    return asked


def test_the_affine_of_an_itk_file_is_judged_in_ras_millimetres(tmp_path):
    matrix = np.array([[0.9, 0.1, 0], [-0.1, 1.1, 0.05], [0, 0, 1.0]])
    shift = np.array([3.0, -4.0, 12.0])
    flip = np.diag([-1.0, -1.0, 1.0])
    transform = sitk.AffineTransform(
        (flip @ matrix @ flip).ravel().tolist(), (flip @ shift).tolist()
    )
    sitk.WriteTransform(transform, str(tmp_path / "affine.txt"))
    atlas = np.random.default_rng(0).uniform(-60, 60, size=(50, 3))
    scan = nib.affines.apply_affine(nib.affines.from_matvec(matrix, shift), atlas)
    assert demo.mean_error(tmp_path / "affine.txt", atlas, scan) == pytest.approx(0, abs=1e-9)
    moved = scan + np.array([0, 3.0, 4.0])
    assert demo.mean_error(tmp_path / "affine.txt", atlas, moved) == pytest.approx(5)


def test_mean_dice_is_over_the_papers_structures_that_are_present(tmp_path):
    table = tmp_path / "dice.tsv"
    table.write_text(
        "label\tname\tdice_affine\tdice\n"
        "10\tLeft-Thalamus\t0.6\t0.8\n"
        "53\tRight-Hippocampus\t0.4\t0.6\n"
        "63\tRight-choroid-plexus\tn/a\tn/a\n"
        "251\tCC_Posterior\t0.1\t0.1\n"
    )
    assert demo.mean_dice(table) == pytest.approx((2, 0.5, 0.7))


def test_the_report_says_that_the_subjects_are_simulated_and_where_the_result_is(layout):
    scores = [
        demo.Score("sub-01", 30, 0.65, 0.9, 3.0, 0.5),
        demo.Score("sub-02", 28, 0.55, 0.8, 4.0, 0.7),
    ]
    text = demo.report(layout, scores, iterations=None)
    assert "simulated" in text
    assert str(layout.result) in text
    mean = next(line for line in text.splitlines() if line.startswith("mean "))
    assert mean.split() == ["mean", "0.600", "0.850", "3.50", "0.60", "28"]
    assert "instead of vxmprep's default" not in text


def test_the_report_says_when_the_refinement_was_shortened(layout):
    scores = [demo.Score("sub-01", 30, 0.65, 0.9, 3.0, 0.5)]
    assert "set to 7 steps" in demo.report(layout, scores, iterations=7)


def test_the_same_dataset_is_made_once(layout, simulated):
    demo.make_dataset(layout, subjects=2, seed=4)
    demo.make_dataset(layout, subjects=2, seed=4)
    assert simulated == [(2, 4)]


def test_other_subjects_do_not_go_into_the_same_folder(layout, simulated):
    demo.make_dataset(layout, subjects=2, seed=4)
    with pytest.raises(demo.DemoError, match="other subjects"):
        demo.make_dataset(layout, subjects=3, seed=4)


def test_a_folder_with_other_things_is_left_alone(tmp_path, simulated, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        demo.main([str(tmp_path)])
    assert "is not empty" in capsys.readouterr().err
    assert simulated == []


@pytest.mark.parametrize(
    "arguments", [["--subjects", "0"], ["--nprocs", "none"], ["--seed", "-1"]]
)
def test_bad_numbers_are_refused_while_parsing(tmp_path, arguments):
    with pytest.raises(SystemExit, match="2"):
        demo.main([str(tmp_path / "out"), *arguments])
    assert not (tmp_path / "out").exists()
