"""FLIRT's matrices against hand-made cases and nitransforms' numbers."""

import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec

from vxmprep.spatial.fsl import fsl_coordinates, read_flirt
from vxmprep.spatial.grid import Grid

LEFT = Grid((10, 12, 14), from_matvec(np.diag([-2.0, 3.0, 4.0]), [50.0, -60.0, 70.0]))
"""A left-handed grid, LAS, as FSL's own templates are."""

RIGHT = Grid((10, 12, 14), from_matvec(np.diag([2.0, 3.0, 4.0]), [32.0, -60.0, 70.0]))
"""The same places, RAS: voxel i of LEFT lies on voxel 9 - i of this one."""


def read(folder, matrix: np.ndarray, fixed: Grid, moving: Grid) -> np.ndarray:
    """As FLIRT writes it: rows that end in two blanks."""
    rows = ["  ".join(f"{x:.10f}" for x in row) + "  " for row in matrix]
    (folder / "a.mat").write_text("\n".join(rows) + "\n")
    return read_flirt(folder / "a.mat", fixed=fixed, moving=moving)


@pytest.mark.parametrize(("grid", "index"), [(LEFT, [3, 5, 7]), (RIGHT, [6, 5, 7])])
def test_fsls_coordinates_count_leftwards_whatever_the_grid(grid, index):
    np.testing.assert_allclose(apply_affine(fsl_coordinates(grid), index), [6, 15, 28])


@pytest.mark.parametrize("fixed", [LEFT, RIGHT])
@pytest.mark.parametrize("moving", [LEFT, RIGHT])
def test_a_shift_in_fsls_coordinates_is_the_same_shift_in_the_world(fixed, moving, tmp_path):
    # The moving brain must go 4 mm to the left (up in FSL's x), 5 forward, 6 down to fit, so a
    # fixed point's partner lies 4 mm to its right, 5 behind and 6 above.
    matrix = from_matvec(np.eye(3), [4.0, 5.0, -6.0])
    found = read(tmp_path, matrix, fixed, moving)
    np.testing.assert_allclose(found, from_matvec(np.eye(3), [4.0, -5.0, 6.0]), atol=1e-9)


def test_without_a_shift_first_voxels_lie_on_each_other(tmp_path):
    larger = Grid((20, 12, 14), from_matvec(np.diag([-1.0, 3.0, 4.0]), [0.0, 0.0, 0.0]))
    found = read(tmp_path, np.eye(4), LEFT, larger)
    np.testing.assert_allclose(apply_affine(found, LEFT.world([[0, 0, 0]])), [[0, 0, 0]])
    # 2 mm a voxel in one, 1 mm in the other
    np.testing.assert_allclose(
        apply_affine(found, LEFT.world([[4, 1, 1]])), larger.world([[8, 1, 1]])
    )


def test_without_a_shift_last_voxels_lie_on_each_other_if_the_grids_are_right_handed(tmp_path):
    larger = Grid((20, 12, 14), from_matvec(np.eye(3), [7.0, 8.0, 9.0]))
    found = read(tmp_path, np.eye(4), RIGHT, larger)
    np.testing.assert_allclose(
        apply_affine(found, RIGHT.world([[9, 0, 0]])), larger.world([[19, 0, 0]])
    )


def test_a_brain_twice_as_large_is_found_by_a_matrix_that_halves_it(tmp_path):
    found = read(tmp_path, np.diag([0.5, 0.5, 0.5, 1.0]), LEFT, LEFT)
    np.testing.assert_allclose(np.diag(found), [2, 2, 2, 1])


OBLIQUE_RIGHT = Grid(
    (30, 40, 25),
    np.array([[0.1, -1.9, 0.2, 10], [1.45, 0.05, -0.2, -20], [0.15, 0.1, 2.45, 5], [0, 0, 0, 1]]),
)
OBLIQUE_LEFT = Grid(
    (36, 28, 44),
    np.array([[-1.9, 0.1, 0.3, 80], [0.2, 2.2, -0.4, -95], [0.1, 0.3, 1.7, -60], [0, 0, 0, 1]]),
)
MATRIX = np.array(
    [[1.05, 0.04, -0.1, 3], [-0.03, 0.95, 0.07, -4], [0.09, -0.05, 1.1, 2.5], [0, 0, 0, 1]]
)


@pytest.mark.parametrize(
    ("fixed", "moving", "expected"),
    [
        (
            OBLIQUE_RIGHT,
            OBLIQUE_LEFT,
            [
                [-0.0582569551, 0.9449743486, 0.1442198548, 61.6195463085],
                [-1.0348859917, -0.0620443612, -0.1788361389, -74.3323799253],
                [-0.1441475292, -0.0615831199, 0.8709505784, -66.2647874962],
                [0, 0, 0, 1],
            ],
        ),
        (
            OBLIQUE_LEFT,
            OBLIQUE_RIGHT,
            [
                [-0.0078093582, -1.0353039885, -0.1064754710, -95.3830890343],
                [0.9255713734, 0.0601571973, -0.3179756603, -61.9327217440],
                [0.2153760449, -0.0192308361, 0.8754696830, 41.5651562625],
                [0, 0, 0, 1],
            ],
        ),
    ],
)
def test_oblique_grids_give_the_numbers_of_nitransforms(fixed, moving, expected, tmp_path):
    # nitransforms 25.1.0: FSLLinearTransform.to_ras(moving=..., reference=...)
    found = read(tmp_path, MATRIX, fixed, moving)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("text", ["", "1 0 0\n0 1 0\n0 0 1\n", "nan\n", "0 0 0 0\n" * 4])
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_what_is_no_matrix_is_refused_by_name(text, tmp_path):
    (tmp_path / "a.mat").write_text(text)
    with pytest.raises(ValueError, match=r"a\.mat: not a matrix"):
        read_flirt(tmp_path / "a.mat", fixed=LEFT, moving=LEFT)
