"""Who trains, validates and tests."""

import json

import pytest

from vxmprep.training.errors import TrainingError
from vxmprep.training.packing import Entry
from vxmprep.training.split import make_split, read_parts, read_split


def cohort(people: int, scans: int = 1, sites: int = 0, labelled: int = 0) -> list[Entry]:
    return [
        Entry(
            f"{person:03}-{scan}",
            f"{person:03}",
            f"site{person % sites}" if sites else None,
            0,
            0 if person < labelled else None,
        )
        for person in range(people)
        for scan in range(scans)
    ]


@pytest.mark.parametrize(
    ("people", "sizes"),
    [(2, (1, 1, 0)), (3, (2, 1, 0)), (4, (3, 1, 0)), (5, (3, 1, 1)), (36, (28, 4, 4))],
)
def test_a_tenth_validates_and_a_tenth_tests(people, sizes):
    split = make_split(cohort(people), 0)
    assert (len(split.train), len(split.validation), len(split.test)) == sizes
    assert len({*split.train, *split.validation, *split.test}) == people


def test_a_single_participant_is_trained_and_validated_on_with_a_warning(told):
    split = make_split(cohort(1, scans=2), 0, tell=told)
    assert split.train == split.validation == ("000",)
    assert split.test == ()
    assert "warning: 000 is the only participant" in told.text


def test_scans_of_a_participant_stay_together():
    entries = cohort(20, scans=3)
    split = make_split(entries, 1)
    parts = [split.indices(part, entries) for part in ("train", "validation", "test")]
    assert sorted(index for part in parts for index in part) == list(range(60))
    people = [{entries[index].participant for index in part} for part in parts]
    assert not people[0] & people[1] | people[0] & people[2] | people[1] & people[2]


def test_sites_are_in_proportion():
    entries = cohort(60, sites=3)
    split = make_split(entries, 0)
    sites = {entry.participant: entry.site for entry in entries}
    for part in (split.validation, split.test):
        assert (
            sorted(sites[name] for name in part) == ["site0"] * 2 + ["site1"] * 2 + ["site2"] * 2
        )


def test_labelled_people_are_in_proportion():
    split = make_split(cohort(40, labelled=20), 0)
    assert sum(int(name) < 20 for name in split.validation) == 2


@pytest.mark.parametrize("labelled", [1, 2])
def test_rare_labelled_people_train(labelled):
    for seed in range(30):
        found = make_split(cohort(10, labelled=labelled), seed)
        assert {f"{person:03}" for person in range(labelled)} <= set(found.train)
        assert (len(found.train), len(found.validation), len(found.test)) == (8, 1, 1)
        # Each is alone at a site, so that everybody is as likely to be drawn.
        found = make_split(cohort(10, sites=10, labelled=labelled), seed)
        assert {f"{person:03}" for person in range(labelled)} <= set(found.train)
    both = make_split(cohort(2, labelled=2), 0)
    assert (len(both.train), len(both.validation)) == (1, 1)


def test_order_of_scans_does_not_matter_but_the_seed_does():
    entries = cohort(30)
    split = make_split(entries, 4)
    assert make_split(entries[::-1], 4) == split
    assert make_split(entries, 5) != split


def test_a_split_reads_back(tmp_path):
    entries = cohort(30)
    split = make_split(entries, 0)
    split.write(tmp_path / "split.json")
    assert read_split(tmp_path / "split.json", entries) == split


def test_participants_are_named_with_or_without_sub(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["sub-000", "001"], "validation": ["sub-002"]}))
    split = read_split(path, cohort(3))
    assert (split.train, split.validation) == (("000", "001"), ("002",))


def test_a_participant_in_two_parts_is_found_without_the_cohort(tmp_path, refused):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["000"], "validation": ["001"], "test": ["sub-000"]}))
    assert "000 is in train and in test" in refused(TrainingError, read_parts, path)


def test_strangers_and_those_in_no_part_are_told(tmp_path, told):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["000", "x"], "validation": ["001"]}))
    split = read_split(path, cohort(4), tell=told)
    assert (split.train, split.validation, split.test) == (("000",), ("001",), ())
    assert "1 participant not in the cohort: x" in told.text
    assert "2 participants in no part and not used: 002, 003" in told.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"train": ["000"], "validation": ["000"]}, "000 is in train and in validation"),
        ({"train": ["x"], "validation": ["000"]}, "nobody of the cohort is in train"),
        ({"train": ["000"]}, "give lists of participants"),
        ({"train": "000", "validation": ["001"]}, "give lists of participants"),
        ([], "give lists of participants"),
    ],
)
def test_what_is_no_split_is_refused(content, said, tmp_path, refused):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    assert said in refused(TrainingError, read_split, path, cohort(3))
