"""FreeSurfer's labels."""

import re

import nibabel as nb
import numpy as np
import pytest

from vxmprep.evaluation.labels import (
    VXM30,
    name_of,
    table,
    without_parcels,
    without_side,
    without_sides,
)


def test_the_papers_structures_are_thirty():
    assert len(set(VXM30)) == 30


def test_every_structure_of_the_paper_has_a_name_and_a_colour():
    for label in VXM30:
        assert re.fullmatch(r"[A-Za-z0-9-]+", table()[label].name)
        assert re.fullmatch(r"#[0-9a-f]{6}", table()[label].color)


def test_left_and_right_of_the_papers_structures_are_paired():
    names = {name_of(label) for label in VXM30}
    lefts = {name for name in names if name.startswith("Left-")}
    assert len(lefts) == 13
    assert {name.replace("Left-", "Right-") for name in lefts} <= names


@pytest.mark.parametrize(
    ("label", "name"),
    # FreeSurferColorLUT.txt
    [
        (2, "Left-Cerebral-White-Matter"),
        (16, "Brain-Stem"),
        (17, "Left-Hippocampus"),
        (53, "Right-Hippocampus"),
        (60, "Right-VentralDC"),
        (1024, "ctx-lh-precentral"),
    ],
)
def test_names_are_those_of_freesurfer(label, name):
    assert name_of(label) == name


def test_a_label_without_a_name_is_called_by_its_number():
    assert name_of(31999) == "label-31999"


@pytest.mark.parametrize(
    "volume", ["sub-bert/mri/aseg.mgz", "sub-bert/mri/aparc+aseg.mgz", "fsaverage/mri/aseg.mgz"]
)
def test_every_label_of_a_real_segmentation_has_a_name(volume, freesurfer_dir):
    values = np.asarray(nb.load(freesurfer_dir / volume).dataobj).astype(np.int32)
    labels = np.flatnonzero(np.bincount(values.ravel()))
    assert len(labels) > 30
    assert [k for k in labels if k and k not in table()] == []


def test_parcels_count_as_cortex_of_their_side(freesurfer_dir):
    folder = freesurfer_dir / "sub-bert" / "mri"
    parcels = np.asarray(nb.load(folder / "aparc+aseg.mgz").dataobj)[::2, ::2, ::2]
    merged = without_parcels(parcels)
    assert merged.max() < 1000
    left, right = (parcels >= 1000) & (parcels < 2000), parcels >= 2000
    assert left.any()
    assert (merged[left] == 3).all()
    assert (merged[right] == 42).all()
    np.testing.assert_array_equal(merged[~left & ~right], parcels[~left & ~right])


def test_the_labels_given_are_not_changed():
    labels = np.array([3, 1024, 2024])
    np.testing.assert_array_equal(without_parcels(labels), [3, 3, 42])
    np.testing.assert_array_equal(labels, [3, 1024, 2024])


def test_the_classes_of_other_tables_are_left_alone():
    np.testing.assert_array_equal(without_parcels(np.array([999, 3000, 0])), [999, 3000, 0])


def test_the_right_counts_as_the_left_and_nothing_else_changes():
    # FreeSurferColorLUT.txt; 12101 and 2040 have no name here, so no left.
    labels = np.array(
        [[0, 2, 41, 17, 53, 60, 16, 251], [1024, 2024, 2000, 14, 80, 77, 12101, 2040]]
    )
    np.testing.assert_array_equal(
        without_sides(labels),
        [[0, 2, 2, 17, 17, 28, 16, 251], [1024, 1024, 1000, 14, 80, 77, 12101, 2040]],
    )
    assert labels[0, 2] == 41, "the labels given are not changed"


def test_structures_of_two_sides_and_no_others_become_one():
    ids = np.array(sorted(table()))
    joined = without_sides(ids)
    for left in np.unique(joined):
        names = [name_of(label) for label in ids[joined == left]]
        pairs = [
            [f"Left-{without_side(names[0])}", f"Right-{without_side(names[0])}"],
            [f"ctx-lh-{without_side(names[0])}", f"ctx-rh-{without_side(names[0])}"],
            [without_side(names[0])],
        ]
        assert names in pairs
    assert len(np.unique(joined)) == len({without_side(name_of(label)) for label in ids})
    assert len(np.unique(without_sides(np.array(VXM30)))) == 17
