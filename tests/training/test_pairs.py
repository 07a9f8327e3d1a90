"""Which scan is registered to which."""

from collections import Counter

from vxmprep.training.errors import TrainingError
from vxmprep.training.packing import Entry
from vxmprep.training.pairs import Pair, PairSampler, validation_pairs

ENTRIES = [Entry(f"{n}", f"{n // 2}", None, 0, 0 if n > 7 else None) for n in range(10)]


def test_every_scan_is_moved_once_before_one_is_moved_again():
    sampler = PairSampler(ENTRIES, range(10), "atlas", 0)
    for turn in range(3):
        pairs = [sampler(10 * turn + number) for number in range(10)]
        assert sorted(pair.moving for pair in pairs) == list(range(10))
        assert all(pair.fixed is None for pair in pairs)


def test_a_pair_depends_on_seed_and_number_alone():
    one, other = (PairSampler(ENTRIES, range(10), "subjects", 3) for _ in range(2))
    backwards = [other(number) for number in reversed(range(50))]
    pairs = [one(number) for number in range(50)]
    assert pairs == backwards[::-1]
    different = PairSampler(ENTRIES, range(10), "subjects", 4)
    assert pairs != [different(number) for number in range(50)]


def test_pairs_of_subjects_are_of_different_participants_and_all_occur():
    sampler = PairSampler(ENTRIES, range(10), "subjects", 0)
    pairs = [sampler(number) for number in range(2000)]
    assert all(pair.moving // 2 != pair.fixed // 2 for pair in pairs)
    assert len(Counter(pairs)) == 80


def test_two_scans_of_one_participant_can_be_paired():
    sampler = PairSampler(ENTRIES, (0, 1), "subjects", 0)
    assert {sampler(number) for number in range(10)} == {Pair(0, 1), Pair(1, 0)}


def test_pairs_of_a_single_scan_are_refused(refused):
    assert "one scan trains" in refused(TrainingError, PairSampler, ENTRIES, (0,), "subjects", 0)


def test_validation_pairs_are_always_the_same_with_labelled_scans_first():
    assert validation_pairs(ENTRIES, range(10), "atlas", 3) == [Pair(8), Pair(9), Pair(0)]
    pairs = validation_pairs(ENTRIES, (0, 1, 2), "subjects")
    assert pairs == [Pair(0, 2), Pair(1, 2), Pair(2, 0)]
    assert validation_pairs(ENTRIES, (0, 1), "subjects") == [Pair(0), Pair(1)]
