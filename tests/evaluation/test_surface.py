"""Surface distances: against the package surface-distance, and spheres."""

import tracemalloc
import warnings

import nibabel as nb
import numpy as np
import pytest

from vxmprep.evaluation.surface import boxes, distance, present, surface_distances


def theirs(fixed: np.ndarray, moving: np.ndarray, spacing) -> tuple[float, float]:
    """HD95 and average symmetric distance by the package's own functions."""
    import surface_distance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls scipy by an old name
        found = surface_distance.compute_surface_distances(fixed, moving, spacing)
    ways = (
        ("distances_gt_to_pred", "surfel_areas_gt"),
        ("distances_pred_to_gt", "surfel_areas_pred"),
    )
    total = sum((found[far] * found[area]).sum() for far, area in ways)
    average = total / sum(found[area].sum() for _, area in ways)
    return surface_distance.compute_robust_hausdorff(found, 95), average


def ball(radius: float, shift: float = 0, spacing=(1, 1, 1), n: int = 64) -> np.ndarray:
    axes = [(np.arange(int(n / s)) - n / s / 2) * s for s in spacing]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return (x - shift) ** 2 + y**2 + z**2 <= radius**2


@pytest.fixture(scope="module")
def aseg(freesurfer_dir) -> np.ndarray:
    image = nb.load(freesurfer_dir / "sub-bert" / "mri" / "aseg.mgz")
    return np.asarray(image.dataobj).astype(np.int32)[60:200:2, 60:200:2, 60:200:2]


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.8, 1, 2.5)])
def test_distances_of_real_labels_are_those_of_surface_distance(aseg, spacing):
    moved = np.roll(aseg, (2, -1, 1), axis=(0, 1, 2))
    found = surface_distances(aseg, moved, spacing)
    assert len(found) > 25
    for label, ours in found.items():
        hd95, average = theirs(aseg == label, moved == label, spacing)
        assert ours.hd95 == pytest.approx(hd95, abs=1e-3)
        assert ours.average == pytest.approx(average, abs=1e-3)


def test_spheres_one_inside_the_other_are_apart_by_the_difference_of_their_radii():
    found = distance(ball(25), ball(20), (1, 1, 1))
    # Surfaces are a layer of corners on both sides of the border: half a voxel closer.
    assert found.average == pytest.approx(4.5, abs=0.1)
    assert found.hd95 == pytest.approx(5, abs=1)


def test_distances_are_in_millimetres_along_each_axis():
    spacing = (1, 2, 0.5)
    found = distance(ball(25, 0, spacing), ball(20, 0, spacing), spacing)
    assert found.average == pytest.approx(4.5, abs=0.15)


def test_a_shifted_plane_is_apart_by_its_shift():
    slab = np.zeros((40, 30, 30), bool)
    slab[10:20] = True
    found = distance(slab, np.roll(slab, 3, axis=0), (2, 1, 1))
    assert found.hd95 == pytest.approx(6)


def test_a_structure_is_at_no_distance_from_itself(aseg):
    found = surface_distances(aseg, aseg, (1, 1, 1), labels=(17, 53, 999))
    assert {k: (d.hd95, d.average) for k, d in found.items()} == {17: (0, 0), 53: (0, 0)}


def test_a_single_voxel_and_one_at_the_border_have_distances():
    fixed, moving = np.zeros((5, 5, 5), int), np.zeros((5, 5, 5), int)
    fixed[0, 0, 0], moving[4, 0, 0] = 1, 1
    assert surface_distances(fixed, moving, (1, 1, 1))[1].hd95 == pytest.approx(4)


def test_what_one_side_lacks_has_no_distance(aseg):
    other = np.where(aseg == 17, 0, aseg)
    assert 17 not in surface_distances(aseg, other, (1, 1, 1), labels=(10, 17))
    assert surface_distances(aseg, np.zeros_like(aseg), (1, 1, 1)) == {}


def test_distance_is_symmetric(aseg):
    moved = np.roll(aseg, 2, axis=0)
    one = surface_distances(aseg, moved, (1, 1, 1), labels=(10, 17))
    other = surface_distances(moved, aseg, (1, 1, 1), labels=(10, 17))
    for label, found in one.items():
        assert found.hd95 == other[label].hd95
        assert found.average == pytest.approx(other[label].average)


def test_boxes_hold_their_structures_and_nothing_of_large_ids_is_lost():
    labels = np.zeros((6, 7, 8), np.int32)
    labels[1:3, 2:4, 5] = largest = 2**31 - 1
    labels[5, 6, 7] = 2
    tracemalloc.start()
    found = boxes(labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == {
        2: (slice(5, 6), slice(6, 7), slice(7, 8)),
        largest: (slice(1, 3), slice(2, 4), slice(5, 6)),
    }
    assert peak < 1e8, "no table of all ids"
    assert present(labels).tolist() == [2, largest]
    assert present(np.zeros((2, 2, 2), int)).tolist() == []


def test_a_box_of_an_empty_map_is_none():
    assert boxes(np.zeros((4, 5, 6), int)) == {}


def test_maps_on_different_grids_are_refused():
    with pytest.raises(ValueError, match="grids differ"):
        surface_distances(np.zeros((2, 2, 2), int), np.zeros((2, 2, 3), int), (1, 1, 1))
