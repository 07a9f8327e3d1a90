"""The leave-one-out majority: against a plain count of the others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vxmprep.evaluation.consensus import Consensus, LabelCounts


def counted(maps) -> LabelCounts:
    counts = LabelCounts(maps[0].shape)
    for labels in maps:
        counts.add(labels)
    return counts


def majority(maps) -> np.ndarray:
    """Most votes, ties to the smaller id, by counting all labels everywhere."""
    ids = np.unique(np.stack([np.zeros_like(maps[0]), *maps]))
    votes = np.stack([sum(labels == k for labels in maps) for k in ids])
    return ids[votes.argmax(axis=0)]


cohorts = st.integers(2, 7).flatmap(
    lambda n: arrays(np.int16, (n, 3, 4, 2), elements=st.sampled_from([0, 0, 2, 3, 17, 1024]))
)


@settings(max_examples=80, deadline=None)
@given(maps=cohorts)
def test_without_anyones_vote_it_is_the_majority_of_the_others(maps):
    consensus = counted(maps).consensus()
    np.testing.assert_array_equal(consensus.without(None), majority(maps))
    for i in range(len(maps)):
        others = np.delete(maps, i, axis=0)
        np.testing.assert_array_equal(consensus.without(maps[i]), majority(others))


def test_a_large_cohort_is_counted_without_a_vote_lost():
    # More maps than a byte counts.
    maps = np.random.default_rng(0).choice([0, 3, 17], size=(700, 4, 4, 4)).astype(np.int16)
    consensus = counted(maps).consensus()
    for i in (0, 333, 699):
        np.testing.assert_array_equal(
            consensus.without(maps[i]), majority(np.delete(maps, i, axis=0))
        )


def test_ties_go_to_the_smaller_id():
    maps = [np.full((1, 1, 1), k) for k in (53, 17, 53, 17)]
    assert counted(maps).consensus().without(None).item() == 17
    # Without one of the 53 it is 17; without one of the 17, 53 has more.
    assert counted(maps).consensus().without(maps[1]).item() == 53


def test_counts_of_parts_of_a_cohort_add_up():
    maps = np.random.default_rng(1).choice([0, 3, 17, 42], size=(9, 5, 6, 7))
    parts = counted(maps[:4])
    parts.merge(counted(maps[4:]))
    np.testing.assert_array_equal(
        parts.consensus().without(maps[2]), counted(maps).consensus().without(maps[2])
    )
    assert parts.voters == 9


def test_labels_that_become_one_are_counted_together():
    maps = np.random.default_rng(2).choice([0, 1001, 1002, 17], size=(7, 5, 6, 7))
    merged = counted(maps).renamed(lambda k: 3 if k > 1000 else k)
    expected = majority(np.where(maps > 1000, 3, maps))
    np.testing.assert_array_equal(merged.consensus().without(None), expected)


def test_it_is_the_same_read_from_files(tmp_path):
    maps = np.random.default_rng(3).choice([0, 3, 17], size=(5, 4, 4, 4))
    consensus = counted(maps).consensus()
    consensus.save(tmp_path)
    read = Consensus.load(tmp_path)
    np.testing.assert_array_equal(read.without(maps[1]), consensus.without(maps[1]))


def test_a_map_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="grids differ"):
        LabelCounts((2, 2, 2)).add(np.zeros((2, 2, 3), int))
