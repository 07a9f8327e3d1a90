"""The examples of the documentation run, and find what is there."""

import importlib.util
from pathlib import Path
from types import ModuleType

import nibabel as nb
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.slow
def test_a_workflow_of_ones_own_registers_every_subject(tiny, tmp_path):
    tiny.atlas(tmp_path / "atlas")
    for number in (1, 2):
        tiny.scan(tmp_path / "scans" / f"s{number}" / "T1w.nii.gz", number)
    folders = [str(tmp_path / name) for name in ("scans", "atlas/atlas.nii.gz", "out")]
    example("own_workflow").main([*folders, "--work", str(tmp_path / "work"), "--iterations", "5"])
    atlas = tiny.brain
    for number in (1, 2):
        folder = tmp_path / "out" / f"s{number}"
        names = {path.name for path in folder.iterdir()}
        assert names == {"smoothed.nii.gz", "jacobian.nii", "forward.h5", "inverse.h5"}
        moved = nb.load(folder / "smoothed.nii.gz").get_fdata()
        before = nb.load(tmp_path / "scans" / f"s{number}" / "T1w.nii.gz").get_fdata()
        assert correlation(moved, atlas) > 0.9
        assert moved.shape == before.shape


def test_morphometry_finds_the_place_that_grows_with_the_regressor(tmp_path, capsys):
    generator = np.random.default_rng(0)
    shape, affine = (24, 26, 24), np.diag([4.0, 4.0, 4.0, 1.0])
    inside = np.zeros(shape, bool)
    inside[3:-3, 3:-3, 3:-3] = True
    rows = ["participant_id\tage\tsite\tscore"]  # that nobody has
    for number in range(14):
        label, age = f"sub-{number:02d}", 20 + 3 * number
        growth = generator.normal(0, 0.05, shape)
        growth[6:11, 12:17, 12:17] += 0.01 * (age - 40)
        folder = tmp_path / "derivatives" / label / "anat"
        folder.mkdir(parents=True)
        jacobian = np.where(inside, np.exp(growth), 0).astype(np.float32)
        nb.save(
            nb.Nifti1Image(jacobian, affine),
            folder / f"{label}_space-MNI_desc-jacobian_map.nii.gz",
        )
        nb.save(
            nb.Nifti1Image(inside.astype(np.float32), affine),
            folder / f"{label}_space-MNI_desc-preproc_T1w.nii.gz",
        )
        rows.append(f"{label}\t{age}\t{number % 2}\tn/a")
    rows[-1] = f"{label}\tn/a\t1\tn/a"  # of unknown age
    rows.append("sub-99\t50\t1\tn/a")  # not registered
    (tmp_path / "table.tsv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "out"
    words = [str(tmp_path / "derivatives"), str(tmp_path / "table.tsv")]
    morphometry = example("tensor_based_morphometry").main
    morphometry([*words, "age", str(out)])
    assert "13 participants have a map and all numbers" in capsys.readouterr().out
    found = nb.load(out / "z_map_thresholded.nii.gz").get_fdata()
    assert found[8, 14, 14] > 3
    assert np.count_nonzero(found[14:]) == 0
    assert (out / "z_map.png").stat().st_size > 5000
    for folder, column, message in (
        (words[0], "height", "table.tsv: height is no column of numbers"),
        (str(tmp_path), "age", "0 participants are too few for 2 columns"),
    ):
        with pytest.raises(SystemExit):
            morphometry([folder, words[1], column, str(out)])
        assert message in capsys.readouterr().err
