"""Which pairs have labels."""

from types import SimpleNamespace

import numpy as np
import pytest

from vxmprep.training.data import Atlas, TrainingData
from vxmprep.training.errors import TrainingError
from vxmprep.training.packing import Entry
from vxmprep.training.pairs import PairSampler
from vxmprep.training.settings import TrainingSettings

SPACE = (2, 2, 2)
ATLAS = Atlas("none", np.zeros(SPACE, np.uint8), np.ones(SPACE, bool), None)


def prepared(*structures: tuple[int, ...]) -> tuple[TrainingData, PairSampler]:
    """Give scans of as many people, with these structures, and pairs of them."""
    entries = [
        Entry(f"{i}", f"{i}", None, 0, i if found else None, 0, found)
        for i, found in enumerate(structures)
    ]
    data = TrainingData(
        SimpleNamespace(entries=entries), ATLAS, TrainingSettings(pairs="subjects")
    )
    return data, PairSampler(entries, range(len(entries)), "subjects", 0)


def test_two_labelled_scans_among_many_are_enough():
    data, sampler = prepared((2, 3), *[()] * 40, (3,))
    assert data.require_labels(sampler) == 2


def test_labelled_scans_without_a_structure_in_common_are_refused():
    data, sampler = prepared((2,), *[()] * 40, (3,))
    with pytest.raises(TrainingError, match="no pair to train on has a structure in both"):
        data.require_labels(sampler)


def test_pairs_of_a_large_cohort_are_not_all_looked_at(monkeypatch):
    data, sampler = prepared((2, 3), *[()] * 40, (3,))
    count = []
    common = TrainingData.common
    monkeypatch.setattr(
        TrainingData, "common", lambda self, pair: count.append(1) or common(self, pair)
    )
    data.require_labels(sampler)
    assert len(count) <= 2 * 42
