"""What the dataset's tables say of participants."""

import json

import pytest

from vxmprep.bids.index import DatasetError
from vxmprep.bids.participants import read_exclusions, read_licence, read_people, read_sites

SCANS = ["sub-01_ses-1", "sub-01_ses-2_run-1", "sub-010"]


@pytest.mark.parametrize("column", ["site", "SITE_ID"])
def test_sites_are_read_from_the_participants(tmp_path, column):
    lines = [f"participant_id\tage\t{column}", "sub-01\t30\tA", "02\t31\tn/a", "sub-03\t32\tB"]
    (tmp_path / "participants.tsv").write_text("\n".join(lines) + "\n")
    assert read_sites(tmp_path) == {"01": "A", "03": "B"}


@pytest.mark.parametrize("column", ["person", "Person_ID"])
def test_a_person_may_have_several_participant_labels(tmp_path, column):
    table = tmp_path / "participants.tsv"
    table.write_text(f"participant_id\t{column}\nsub-01\tA\nsub-02\tA\nsub-03\tn/a\n")
    assert read_people(table) == {"01": "A", "02": "A"}
    assert read_people(tmp_path / "none.tsv") == {}


@pytest.mark.parametrize("text", [None, "", "participant_id\tage\nsub-01\t3\n", "\n\n", "\t\n1\n"])
def test_a_dataset_need_not_name_sites(tmp_path, text):
    if text is not None:
        (tmp_path / "participants.tsv").write_text(text)
    assert read_sites(tmp_path) == {}


@pytest.mark.parametrize(
    ("content", "licence"),
    [({"License": "CC0"}, "CC0"), ({}, None), ({"License": " "}, None), ([], None)],
)
def test_the_licence_is_that_of_the_description(tmp_path, content, licence):
    (tmp_path / "dataset_description.json").write_text(json.dumps(content))
    assert read_licence(tmp_path) == licence


def test_a_line_leaves_out_a_participant_a_session_or_a_scan(tmp_path):
    path = tmp_path / "bad.tsv"
    # As Windows writes text, with a mark at its beginning.
    path.write_text("sub-01_ses-2\ttwisted\n\n# by eye\n010 # cut off\n", encoding="utf-8-sig")
    assert read_exclusions(path, SCANS) == {
        "sub-01_ses-2_run-1": "bad.tsv: twisted",
        "sub-010": "bad.tsv: cut off",
    }
    path.write_text("sub-01_ses-1_T1w\n")
    assert read_exclusions(path, SCANS) == {"sub-01_ses-1": "bad.tsv: no reason given"}
    path.write_text("01\n")
    assert set(read_exclusions(path, SCANS)) == {"sub-01_ses-1", "sub-01_ses-2_run-1"}


def test_what_the_dataset_lacks_cannot_be_excluded(tmp_path):
    path = tmp_path / "bad.txt"
    path.write_text("sub-01\nsub-1\n")
    with pytest.raises(DatasetError, match=r"bad.txt: line 2: .* no T1w scan of sub-1;"):
        read_exclusions(path, SCANS)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="not text"):
        read_exclusions(path, SCANS)
