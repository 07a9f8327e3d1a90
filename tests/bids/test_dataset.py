"""Which scans a dataset holds."""

import json
import os
import sqlite3
from pathlib import Path

import pytest
from bids import BIDSLayout

from vxmprep.bids.dataset import Scan, choose_scans, find_scans, well_named
from vxmprep.bids.filters import read_filter_file
from vxmprep.bids.index import DATABASE, DatasetError

unprivileged = pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write anywhere")

FOUR = (
    "sub-01/ses-a/anat/sub-01_ses-a_run-1_T1w.nii.gz",
    "sub-01/ses-a/anat/sub-01_ses-a_run-02_T1w.nii.gz",
    "sub-01/ses-b/anat/sub-01_ses-b_acq-mprage_T1w.nii.gz",
    "sub-02/ses-a/anat/sub-02_ses-a_acq-other_T1w.nii",
)


def make(root, *names: str):
    """A dataset with empty files of these names."""
    root.mkdir(parents=True, exist_ok=True)
    description = {"Name": "made up", "BIDSVersion": "1.10.0"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def complaint(function, *args, **kwargs) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(DatasetError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def chosen(root: Path, **labels) -> list[Scan]:
    """The scans of a dataset that have some labels."""
    return choose_scans(find_scans(root), bids_dir=root, **labels)


def stems(scans: list[Scan]) -> list[str]:
    return [scan.stem for scan in scans]


@pytest.fixture
def four(tmp_path) -> Path:
    """A dataset of four scans: two runs, two sessions, two participants."""
    return make(tmp_path / "bids", *FOUR)


@pytest.mark.parametrize(
    ("cohort", "number"),
    [
        ("freesurfer-cohort", 2),
        ("labelled-cohort", 25),
        ("training-cohort", 36),
        ("whole-head-cohort", 6),
    ],
)
def test_all_scans_of_a_real_cohort_are_found(cohort, number, shared_data):
    scans = find_scans(shared_data / cohort)
    assert len(scans) == number
    assert all(scan.path.is_file() for scan in scans)
    assert len({scan.participant for scan in scans}) == number


def test_sessions_and_runs_are_scans_of_their_own_in_order(tmp_path):
    root = make(
        tmp_path / "bids",
        "sub-02/anat/sub-02_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_run-2_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_run-1_T1w.nii.gz",
    )
    assert stems(find_scans(root)) == [
        "sub-01_ses-a_run-1",
        "sub-01_ses-a_run-2",
        "sub-01_ses-b",
        "sub-02",
    ]


def test_entities_are_kept_in_the_order_of_bids(tmp_path):
    name = "sub-01_ses-a_acq-mprage_ce-gd_rec-norm_run-02_echo-1_part-mag_T1w.nii.gz"
    (scan,) = find_scans(make(tmp_path / "bids", f"sub-01/ses-a/anat/{name}"))
    assert scan.entities == (
        ("subject", "01"),
        ("session", "a"),
        ("acquisition", "mprage"),
        ("ceagent", "gd"),
        ("reconstruction", "norm"),
        ("run", "02"),
        ("echo", "1"),
        ("part", "mag"),
    )
    assert (scan.participant, scan.session) == ("01", "a")


@pytest.mark.parametrize("entity", ["chunk", "task"])
def test_scans_that_differ_in_one_entity_have_entities_that_differ(entity, tmp_path):
    names = [f"sub-01_{entity}-{i}_T1w.nii.gz" for i in (1, 2)]
    scans = find_scans(make(tmp_path / "bids", *(f"sub-01/anat/{name}" for name in names)))
    assert len({scan.entities for scan in scans}) == 2


def test_a_scan_without_session_has_none(tmp_path):
    (scan,) = find_scans(make(tmp_path / "bids", "sub-01/anat/sub-01_T1w.nii"))
    assert scan.session is None
    assert scan.stem == "sub-01"


def test_other_images_and_other_folders_are_no_scans(tmp_path):
    root = make(
        tmp_path / "bids",
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_T1w.json",
        "sub-01/anat/sub-01_T2w.nii.gz",
        "sub-01/func/sub-01_task-rest_bold.nii.gz",
        "derivatives/other/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz",
        "derivatives/other/sub-02/anat/sub-02_T1w.nii.gz",
        "sourcedata/sub-03/anat/sub-03_T1w.nii.gz",
        ".git/annex/sub-04/anat/sub-04_T1w.nii.gz",
    )
    assert [scan.path for scan in find_scans(root)] == [root / "sub-01/anat/sub-01_T1w.nii.gz"]


def test_an_output_folder_in_the_dataset_holds_no_scans(tmp_path):
    root = make(
        tmp_path / "bids",
        "sub-01/anat/sub-01_T1w.nii.gz",
        "vxmprep/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz",
        "vxmprep/sub-01/anat/sub-01_space-MNI152NLin2009cAsym_desc-preproc_T1w.nii.gz",
    )
    assert stems(find_scans(root)) == ["sub-01"]


def test_a_dataset_inside_a_hidden_folder_is_read_all_the_same(tmp_path):
    root = make(tmp_path / ".cache" / "bids", "sub-01/anat/sub-01_T1w.nii.gz")
    assert len(find_scans(root)) == 1


def test_a_dataset_under_a_folder_called_derivatives_is_read_all_the_same(tmp_path):
    root = make(tmp_path / "derivatives" / "x", "sub-01/anat/sub-01_T1w.nii.gz")
    assert len(find_scans(root)) == 1


@pytest.mark.parametrize("folder", ["func", "meg", "eeg"])
def test_a_dataset_under_a_folder_called_like_a_data_type_is_read_all_the_same(folder, tmp_path):
    root = make(tmp_path / folder / "bids", "sub-01/anat/sub-01_T1w.nii.gz")
    assert len(find_scans(root)) == 1


@pytest.mark.parametrize("folder", ["sub-99", "ses-b", "job_run-3"])
def test_folders_above_the_dataset_give_a_scan_no_entities(folder, tmp_path):
    root = make(tmp_path / folder / "bids", "sub-01/anat/sub-01_T1w.nii.gz")
    assert [scan.entities for scan in find_scans(root)] == [(("subject", "01"),)]


@pytest.mark.parametrize("names", [(), ("sub-01/anat/sub-01_T2w.nii.gz",)])
def test_a_dataset_without_a_t1w_is_refused(names, tmp_path):
    root = make(tmp_path / "bids", *names)
    assert complaint(find_scans, root).startswith(f"{root}: no T1w scan found")


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    assert "dataset_description.json is missing" in complaint(find_scans, tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    assert "no such folder" in complaint(find_scans, tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"BIDSVersion": "1.0.0"}'])
def test_a_flawed_description_does_no_harm(text, tmp_path):
    root = make(tmp_path / "bids", "sub-01/anat/sub-01_T1w.nii.gz")
    (root / "dataset_description.json").write_text(text)
    assert len(find_scans(root)) == 1


def test_scans_whose_results_would_overwrite_each_other_are_refused(tmp_path):
    root = make(
        tmp_path / "bids",
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz",
    )
    assert "same BIDS entities" in complaint(chosen, root)


@pytest.mark.parametrize("kind", ["phase", "real", "imag"])
def test_of_a_complex_image_only_the_magnitude_is_a_scan(kind, tmp_path):
    names = [f"sub-01/anat/sub-01_part-{part}_T1w.nii.gz" for part in ("mag", kind)]
    assert stems(find_scans(make(tmp_path / "bids", *names))) == ["sub-01_part-mag"]


def test_every_t1w_of_a_session_is_a_scan(tmp_path):
    variants = ["acq-a", "acq-b", "acq-b_rec-norm", "run-1", "run-10", "run-2"]
    names = [f"sub-01/ses-1/anat/sub-01_ses-1_{variant}_T1w.nii.gz" for variant in variants]
    scans = find_scans(make(tmp_path / "bids", *names))
    assert stems(scans) == [f"sub-01_ses-1_{variant}" for variant in variants]


def test_a_scan_in_both_formats_is_refused(tmp_path):
    names = [f"sub-01/anat/sub-01_T1w.{extension}" for extension in ("nii", "nii.gz")]
    assert "sub-01_T1w.nii, " in complaint(chosen, make(tmp_path / "bids", *names))


@pytest.mark.parametrize(
    "name",
    [
        "sub-02/anat/sub-01_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-b_T1w.nii.gz",
        "sub-01-a/anat/sub-01-a_T1w.nii.gz",
        "sub-Zoë/anat/sub-Zoë_T1w.nii.gz",
    ],
)
def test_a_scan_whose_name_and_folders_disagree_is_refused(name, tmp_path):
    root = make(tmp_path / "bids", name)
    assert complaint(chosen, root).startswith(f"{root / name}: its name must begin with")


def test_a_misnamed_scan_keeps_nobody_else_from_being_chosen(tmp_path):
    names = ("sub-02/anat/sub-01_T1w.nii.gz", "sub-03/anat/sub-03_T1w.nii.gz")
    root = make(tmp_path / "bids", *names)
    assert stems(chosen(root, participants=["03"])) == ["sub-03"]
    assert stems(well_named(find_scans(root), root)) == ["sub-03"]
    assert "its name must begin with" in complaint(chosen, root, participants=["02"])


def test_a_dataset_that_cannot_be_looked_at_is_refused():
    assert "cannot be read" in complaint(find_scans, Path("x" * 300))


@unprivileged
def test_a_dataset_with_a_folder_that_may_not_be_read_is_refused(four):
    (four / "sub-02").chmod(0)
    try:
        assert str(four / "sub-02") in complaint(find_scans, four)
    finally:
        (four / "sub-02").chmod(0o700)


@pytest.mark.parametrize("folder", ["my data", "dätä", "数据", "a::b", "100% [x] #1", "a&b=c"])
def test_the_path_of_a_dataset_may_hold_any_characters(folder, tmp_path):
    root = make(tmp_path / folder / "bids", "sub-01/anat/sub-01_T1w.nii.gz")
    (scan,) = find_scans(root, database_dir=tmp_path / folder / "database")
    assert find_scans(root, database_dir=tmp_path / folder / "database") == [scan]
    assert scan.path == root / "sub-01/anat/sub-01_T1w.nii.gz"


def test_a_dataset_may_be_given_relative_to_the_working_folder(four, monkeypatch):
    monkeypatch.chdir(four.parent)
    assert find_scans(Path("bids")) == find_scans(four)


def test_the_root_of_a_dataset_may_be_a_link(four, tmp_path):
    (tmp_path / "link").symlink_to(four)
    assert [scan.path for scan in find_scans(tmp_path / "link")] == [
        tmp_path / "link" / scan.path.relative_to(four) for scan in find_scans(four)
    ]


def test_folders_of_participants_may_be_links(four, tmp_path):
    root = make(tmp_path / "selection")
    (root / "sub-02").symlink_to(four / "sub-02")
    (root / "sub-03").symlink_to(tmp_path / "nowhere")
    assert stems(find_scans(root)) == ["sub-02_ses-a_acq-other"]


def test_a_link_back_to_a_folder_above_is_not_followed(four):
    (four / "sub-01" / "ses-a" / "anat" / "all").symlink_to(four)
    (four / "sub-01" / "all").symlink_to(four)
    assert len(find_scans(four)) == 4


@pytest.mark.parametrize("fetched", [True, False], ids=["fetched", "not fetched"])
def test_a_scan_kept_by_git_annex_is_listed_whether_fetched_or_not(fetched, tmp_path):
    root = make(tmp_path / "bids", "sub-01/anat/sub-01_T1w.json")
    content = root / ".git/annex/objects/1k/2x/MD5E-s9--abc.nii.gz/MD5E-s9--abc.nii.gz"
    if fetched:
        make(root, str(content.relative_to(root)))
    link = root / "sub-01/anat/sub-01_T1w.nii.gz"
    link.symlink_to(Path("../..") / content.relative_to(root))
    assert [scan.path for scan in find_scans(root)] == [link]
    assert link.exists() == fetched


# Choosing among the scans


@pytest.mark.parametrize("label", ["02", "sub-02"])
def test_a_participant_is_chosen_with_or_without_sub(label, four):
    assert stems(chosen(four, participants=[label])) == ["sub-02_ses-a_acq-other"]


@pytest.mark.parametrize("label", ["b", "ses-b"])
def test_a_session_is_chosen_with_or_without_ses(label, four):
    assert stems(chosen(four, sessions=[label])) == ["sub-01_ses-b_acq-mprage"]


def test_without_labels_all_scans_are_chosen(four):
    assert chosen(four) == find_scans(four)


def test_a_participant_without_an_asked_session_is_left_out(four):
    scans = chosen(four, participants=["01", "02"], sessions=["b"])
    assert stems(scans) == ["sub-01_ses-b_acq-mprage"]


def test_participants_without_any_asked_session_are_refused(four):
    said = complaint(chosen, four, participants=["02"], sessions=["b"])
    assert said.startswith(f"{four}: no T1w scan of sub-02 in ses-b")


@pytest.mark.parametrize("asked", [{"participants": ["01", "99"]}, {"sessions": ["a", "99"]}])
def test_an_unknown_label_is_named(asked, four):
    prefix = {"participants": "sub-", "sessions": "ses-"}[next(iter(asked))]
    assert f"no T1w scan of {prefix}99; check the label" in complaint(chosen, four, **asked)


def test_a_participant_without_a_t1w_is_unknown(four):
    make(four, "sub-03/anat/sub-03_T2w.nii.gz")
    assert "no T1w scan of sub-03" in complaint(chosen, four, participants=["03"])


# Filter files


def written(folder: Path, content: object) -> Path:
    path = folder / "filter.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def filter_file(folder: Path, wanted: dict) -> Path:
    """Write which T1w are wanted."""
    return written(folder, {"t1w": wanted})


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ({}, [0, 1, 2, 3]),
        ({"session": "b"}, [2]),
        ({"session": ["a", "c"], "subject": "01"}, [0, 1]),
        ({"run": 1}, [0]),
        ({"run": "1"}, [0]),
        ({"run": "01"}, [0]),
        ({"run": [2, 3]}, [1]),
        ({"run": "2"}, [1]),
        ({"run": None}, [2, 3]),
        ({"run": "Query.NONE"}, [2, 3]),
        ({"run": "*"}, [0, 1]),
        ({"run": "Query.ANY"}, [0, 1]),
        ({"run": "<Query.ANY: 2>"}, [0, 1]),
        ({"run": "Query.OPTIONAL"}, [0, 1, 2, 3]),
        ({"acquisition": [None, "mprage"]}, [0, 1, 2]),
        ({"subject": 1}, []),
        ({"extension": "nii"}, [3]),
        ({"extension": [".nii.gz"], "datatype": "anat", "suffix": "T1w"}, [0, 1, 2]),
        ({"suffix": "UNIT1"}, []),
    ],
)
def test_a_filter_keeps_the_scans_that_pybids_users_expect(wanted, kept, four, tmp_path):
    file = filter_file(tmp_path, wanted)
    if kept:
        paths = {scan.path for scan in find_scans(four, filter_file=file)}
        assert paths == {four / FOUR[i] for i in kept}
    else:
        assert "none of the 4 T1w scans" in complaint(find_scans, four, filter_file=file)


@pytest.mark.parametrize(
    "wanted",
    [{"run": 1}, {"run": "01"}, {"run": "*"}, {"run": None}, {"session": ["a"], "run": [1, 2]}],
)
def test_a_filter_keeps_what_pybids_own_query_keeps(wanted, four, tmp_path):
    from bids.layout import Query

    query = {None: Query.NONE, "*": Query.ANY}
    asked = {k: v if isinstance(v, list) else query.get(v, v) for k, v in wanted.items()}
    own = BIDSLayout(four, validate=False).get(suffix="T1w", return_type="filename", **asked)
    scans = find_scans(four, filter_file=filter_file(tmp_path, wanted))
    assert sorted(str(scan.path) for scan in scans) == sorted(own)


def test_a_filter_sees_no_entities_of_folders_above_the_dataset(tmp_path):
    root = make(tmp_path / "ses-b_run-3" / "bids", "sub-01/anat/sub-01_T1w.nii.gz")
    file = filter_file(tmp_path, {"session": None, "run": None})
    assert len(find_scans(root, filter_file=file)) == 1


def test_a_filter_settles_which_of_two_ambiguous_scans_is_meant(tmp_path):
    names = [f"sub-01/anat/sub-01_T1w.{extension}" for extension in ("nii", "nii.gz")]
    root = make(tmp_path / "bids", *names)
    (scan,) = find_scans(root, filter_file=filter_file(tmp_path, {"extension": ".nii"}))
    assert scan.path.name == "sub-01_T1w.nii"


def test_parts_of_a_filter_file_for_other_images_are_ignored(tmp_path):
    content = {"bold": {"nonsense": {}}, "t2w": 3, "t1w": {"session": "01", "run": None}}
    path = written(tmp_path, content)
    assert read_filter_file(path) == {"session": "01", "run": None}


def test_a_filter_that_no_scan_passes_is_refused_with_its_file(four, tmp_path):
    path = filter_file(tmp_path, {"session": "z"})
    said = complaint(find_scans, four, filter_file=path)
    assert said.startswith(f"--bids-filter-file {path}: none of the 4 T1w scans")
    assert '{"session": "z"}' in said


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", 'no object "t1w"'),
        ({"bold": {}}, 'no object "t1w"'),
        ({"t1w": ["session"]}, 'no object "t1w"'),
        ({"t1w": {"acq": "mprage"}}, "no entity is called acq; known: subject, session"),
        ({"t1w": {"run": True}}, "run is true"),
        ({"t1w": {"run": 1.5}}, "run is 1.5"),
        ({"t1w": {"run": {"a": 1}}}, 'run is {"a": 1}'),
        ({"t1w": {"run": []}}, "run is []"),
        ({"t1w": {"run": [[1]]}}, "run is [[1]]"),
        ({"t1w": {"run": "Query.NOTHING"}}, 'run is "Query.NOTHING"'),
    ],
)
def test_a_flawed_filter_file_is_refused_with_what_is_wrong(content, problem, tmp_path):
    path = written(tmp_path, content)
    said = complaint(read_filter_file, path)
    assert said.startswith(f"--bids-filter-file {path}: {problem}")


@pytest.mark.parametrize(("name", "problem"), [("none.json", "no such file"), ("", "cannot be")])
def test_a_filter_file_that_cannot_be_opened_is_refused(name, problem, tmp_path):
    said = complaint(read_filter_file, tmp_path / name)
    assert said.startswith(f"--bids-filter-file {tmp_path / name}: {problem}")


# pybids' database


@pytest.fixture
def database(four, tmp_path) -> Path:
    """A database of the dataset of four scans."""
    find_scans(four, database_dir=tmp_path / "new" / "database")
    return tmp_path / "new" / "database"


def unusable(root: Path, database: Path) -> str:
    said = complaint(find_scans, root, database_dir=database)
    assert said.startswith(f"--bids-database-dir {database}: ")
    return said


def test_a_database_gives_the_scans_of_the_dataset(four, database):
    assert find_scans(four, database_dir=database) == find_scans(four)


def test_a_database_is_used_without_reading_the_dataset_again(four, database):
    make(four, "sub-03/anat/sub-03_T1w.nii.gz")
    assert len(find_scans(four, database_dir=database)) == 4
    assert len(find_scans(four)) == 5


def test_a_database_is_a_single_file_that_pybids_opens(four, database):
    assert [file.name for file in database.iterdir()] == [DATABASE]
    layout = BIDSLayout(database_path=database, validate=False)
    assert len(layout.get(suffix="T1w")) == 4


def test_a_database_serves_other_filters(four, database, tmp_path):
    file = filter_file(tmp_path, {"run": 1})
    assert len(find_scans(four, database_dir=database, filter_file=file)) == 1


def test_a_database_made_by_pybids_with_all_files_gives_the_same_scans(four, tmp_path):
    make(four, "sub-01/func/sub-01_task-rest_bold.nii.gz", "sub-01/func/sub-01_T1w.nii.gz")
    BIDSLayout(four, validate=False, database_path=tmp_path / "database")
    assert find_scans(four, database_dir=tmp_path / "database") == find_scans(four)


def test_a_database_serves_the_dataset_under_another_name(four, database, tmp_path):
    (tmp_path / "link").symlink_to(four)
    scans = find_scans(tmp_path / "link", database_dir=database)
    assert scans == find_scans(tmp_path / "link")


def test_a_database_of_another_dataset_is_refused(four, database, tmp_path):
    other = make(tmp_path / "other", "sub-01/anat/sub-01_T1w.nii.gz")
    assert f"made for another dataset, {four};" in unusable(other, database)


def test_a_database_of_a_dataset_that_is_gone_is_refused(four, database, tmp_path):
    four.rename(tmp_path / "moved")
    assert f"made for another dataset, {four};" in unusable(tmp_path / "moved", database)


def test_a_folder_of_other_files_is_no_place_for_a_database(four):
    assert "holds other files" in unusable(four, four)
    assert not (four / DATABASE).exists()


@pytest.mark.parametrize(
    ("place", "problem"), [("file", "not a folder"), ("file/database", "cannot be made")]
)
def test_a_database_that_cannot_be_made_is_refused(place, problem, four, tmp_path):
    (tmp_path / "file").touch()
    assert problem in unusable(four, tmp_path / place)


@pytest.mark.parametrize("name", ["which?", "%3F"])
def test_a_database_whose_path_pybids_cannot_open_is_refused(name, four, tmp_path):
    assert "pybids cannot open" in unusable(four, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["bids"]


@unprivileged
def test_a_database_in_a_folder_without_permission_is_refused(four, tmp_path):
    (tmp_path / "database").mkdir(mode=0o500)
    assert "not writable" in unusable(four, tmp_path / "database")


@pytest.mark.parametrize("content", [b"", b"something else entirely" * 100])
def test_a_file_that_is_no_database_is_refused(content, four, database):
    (database / DATABASE).write_bytes(content)
    assert "cannot be read as a database of pybids" in unusable(four, database)


def test_a_torn_database_is_refused(four, database):
    whole = (database / DATABASE).read_bytes()
    (database / DATABASE).write_bytes(whole[: len(whole) // 2])
    assert "remove it, so that it is made anew" in unusable(four, database)


def test_a_database_that_names_no_dataset_is_refused(four, database):
    with sqlite3.connect(database / DATABASE) as connection:
        connection.execute("DELETE FROM layout_info")
    assert "no dataset recorded" in unusable(four, database)


def test_a_database_that_lists_no_scan_is_refused(four, database):
    with sqlite3.connect(database / DATABASE) as connection:
        connection.execute("DELETE FROM files")
        connection.execute("DELETE FROM tags")
    assert "lists no T1w scan" in unusable(four, database)


def test_no_database_is_left_of_a_dataset_without_scans(tmp_path):
    root = make(tmp_path / "bids")
    said = complaint(find_scans, root, database_dir=tmp_path / "database")
    assert said.startswith(f"{root}: no T1w scan found")
    make(root, "sub-01/anat/sub-01_T1w.nii.gz")
    assert len(find_scans(root, database_dir=tmp_path / "database")) == 1


def test_a_database_cut_short_while_being_made_is_made_at_the_next_try(
    four, tmp_path, monkeypatch
):
    def die(layout, folder, **_):
        (Path(folder) / DATABASE).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BIDSLayout, "save", die)
        with pytest.raises(KeyboardInterrupt):
            find_scans(four, database_dir=tmp_path / "database")
    assert not (tmp_path / "database" / DATABASE).exists()
    assert len(find_scans(four, database_dir=tmp_path / "database")) == 4


def test_what_a_killed_process_left_does_not_keep_a_database_from_being_made(four, tmp_path):
    make(tmp_path / "database" / ".making-x").joinpath(DATABASE).write_bytes(b"half")
    assert find_scans(four, database_dir=tmp_path / "database") == find_scans(four)
    assert (tmp_path / "database" / DATABASE).is_file()


def test_a_database_that_another_job_makes_meanwhile_is_no_hindrance(four, tmp_path, monkeypatch):
    folder, save = tmp_path / "database", BIDSLayout.save

    def save_second(layout, making, **kwargs):
        save(layout, folder, **kwargs)
        save(layout, making, **kwargs)

    monkeypatch.setattr(BIDSLayout, "save", save_second)
    assert len(find_scans(four, database_dir=folder)) == 4
    assert len(find_scans(four, database_dir=folder)) == 4
