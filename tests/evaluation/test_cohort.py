"""A cohort against the majority of the others, from files."""

import tracemalloc
import weakref
from dataclasses import replace
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from vxmprep.evaluation.cohort import LabelMaps, _count, _spread, cohort_overlap, read_labels
from vxmprep.evaluation.overlap import overlaps
from vxmprep.evaluation.surface import surface_distances

SHAPE = (18, 17, 16)


def brain(seed: int, wobble: int = 1, ids=(17, 53, 1002)) -> np.ndarray:
    """Three boxes, each moved a little."""
    generator = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.int32)
    for i, label in enumerate(ids):
        y, z = generator.integers(-wobble, wobble + 1, 2)
        low = (1 + 5 * i, 4 + y, 4 + z)
        labels[tuple(slice(a, a + 5) for a in low)] = label
    return labels


def written(folder: Path, maps: dict[str, np.ndarray], affine=None) -> list[LabelMaps]:
    """Write maps by scan; the affine ones lie two voxels off."""
    scans = []
    for name, labels in maps.items():
        paths = [folder / f"{name}_{way}.nii.gz" for way in ("affine", "full")]
        for path, data in zip(paths, (np.roll(labels, 2, axis=1), labels), strict=True):
            nb.save(nb.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
        scans.append(LabelMaps(name, name.split("_")[0], *paths))
    return scans


def majority(maps) -> np.ndarray:
    ids = np.unique(np.stack([np.zeros(SHAPE, int), *maps]))
    return ids[np.stack([sum(m == k for m in maps) for k in ids]).argmax(axis=0)]


def test_what_a_killed_process_leaves_is_done_all_the_same():
    dies = (
        "__import__('os').kill(__import__('os').getpid(), 9)"
        " if __import__('multiprocessing').parent_process() else 2"
    )
    assert list(_spread(eval, ["1", dies, "3", "4"], 2)) == [1, 2, 3, 4]


@pytest.mark.parametrize("processes", [1, 2])
def test_every_scan_is_compared_with_the_majority_of_the_others(tmp_path, processes):
    maps = {f"sub-{i}": brain(i) for i in range(6)}
    found = cohort_overlap(
        written(tmp_path, maps), tmp_path / "w", labels="all", processes=processes
    )
    assert len(found.voters) == 6
    assert found.labels == (17, 53, 1002)
    for name, own in maps.items():
        others = [labels for other, labels in maps.items() if other != name]
        expected = overlaps(majority(others), own)
        affine = overlaps(
            majority([np.roll(m, 2, axis=1) for m in others]), np.roll(own, 2, axis=1)
        )
        far = surface_distances(majority(others), own, (1, 1, 1))
        for row in found.rows[name]:
            assert row.dice == pytest.approx(expected[row.label].dice)
            assert row.dice_affine == pytest.approx(affine[row.label].dice)
            assert row.hd95 == pytest.approx(far[row.label].hd95)
            assert row.voxels_moving == 125


def test_a_person_never_votes_on_any_of_their_own_scans(tmp_path):
    maps = {f"sub-{i}": brain(i) for i in range(4)}
    # Twice the same odd person: neither scan is helped by the other.
    maps |= {"sub-odd_ses-1": brain(9, 3), "sub-odd_ses-2": brain(9, 3)}
    found = cohort_overlap(written(tmp_path, maps), tmp_path / "w", labels="all")
    assert len(found.voters) == 5
    expected = overlaps(majority([brain(i) for i in range(4)]), brain(9, 3))
    for name in ("sub-odd_ses-1", "sub-odd_ses-2"):
        for row in found.rows[name]:
            np.testing.assert_equal(row.dice, expected[row.label].dice)


def test_a_scan_without_a_vote_is_compared_all_the_same(tmp_path):
    maps = {f"sub-{i}": brain(i) for i in range(5)}
    *sound, odd = written(tmp_path, {**maps, "sub-odd": brain(9, 3)})
    found = cohort_overlap([*sound, replace(odd, votes=False)], tmp_path / "w", labels="all")
    assert len(found.voters) == 5
    expected = overlaps(majority(list(maps.values())), brain(9, 3))
    assert [r.dice for r in found.rows["sub-odd"]] == pytest.approx(
        [expected[r.label].dice for r in found.rows["sub-odd"]]
    )


def test_three_participants_have_no_consensus_and_four_have(tmp_path):
    maps = {f"sub-{i}": brain(i) for i in range(4)}
    scans = written(tmp_path, maps)
    assert cohort_overlap(scans[:3], tmp_path / "a").rows == {}
    assert len(cohort_overlap(scans, tmp_path / "b").rows) == 4
    assert cohort_overlap(scans[:1], tmp_path / "c").rows == {}
    assert cohort_overlap([], tmp_path / "d").rows == {}


def test_parcels_count_as_cortex_where_that_is_wanted_and_in_mixed_cohorts(tmp_path):
    maps = {f"sub-{i}": brain(i) for i in range(5)}
    scans = written(tmp_path, maps)
    labels = {r.label for r in cohort_overlap(scans, tmp_path / "a").rows["sub-0"]}
    assert labels == {3, 17, 53}
    assert not cohort_overlap(scans, tmp_path / "b", labels="all").merged
    chosen = cohort_overlap(scans, tmp_path / "d", labels=(3, 17))
    assert {row.label for row in chosen.rows["sub-0"]} == {3, 17}
    assert not cohort_overlap(scans, tmp_path / "e", labels=(3, 17, 2040)).merged
    scans += written(tmp_path, {"sub-aseg": brain(7, ids=(17, 53, 3))})
    found = cohort_overlap(scans, tmp_path / "c", labels="all")
    assert found.merged
    assert found.labels == (3, 17, 53)


def test_joined_sides_are_compared_as_unions_of_their_masks(tmp_path):
    """One side of a scan lies on the other's place, which the union counts as common."""
    maps = {f"sub-{i}": brain(i, ids=(17, 53, 2040)) for i in range(5)}
    swapped = brain(5, ids=(53, 17, 2040))
    maps["sub-5"] = swapped
    scans = written(tmp_path, maps)
    found = cohort_overlap(scans, tmp_path / "w", labels="vxm30", joined=True)
    assert len(found.labels) == 17
    assert [(row.label, found.name_of(row.label)) for row in found.rows["sub-0"]] == [
        (3, "Cerebral-Cortex"), (17, "Hippocampus"),
    ]  # fmt: skip
    joined = {
        name: np.select([(m == 17) | (m == 53), m == 2040], [17, 3], 0) for name, m in maps.items()
    }
    for name, own in joined.items():
        others = [m for other, m in joined.items() if other != name]
        ways = {"dice": (others, own)}
        ways["dice_affine"] = [np.roll(m, 2, axis=1) for m in others], np.roll(own, 2, axis=1)
        for row in found.rows[name]:
            for way, (theirs, mine) in ways.items():
                a, b = majority(theirs) == row.label, mine == row.label
                expected = 2 * (a & b).sum() / (a.sum() + b.sum())
                assert getattr(row, way) == pytest.approx(expected)
            far = surface_distances(majority(others), own, (1, 1, 1))
            assert row.hd95 == pytest.approx(far[row.label].hd95)
            assert row.voxels_moving == (250 if row.label == 17 else 125)
    apart = cohort_overlap(scans, tmp_path / "v", labels="vxm30").rows["sub-5"]
    assert [row.dice for row in apart if row.label in (17, 53)] == [0, 0]


def test_joined_structures_are_common_by_the_voxels_of_both_sides(tmp_path):
    def thinned(labels, keep):
        """Leave some voxels of each label."""
        for label, count in keep.items():
            labels[tuple(np.argwhere(labels == label)[count:].T)] = 0
        return labels

    # 60 + 60 are enough; a scan with one side is enough; 60 of one side alone are not.
    maps = {f"sub-{i}": brain(i) for i in range(4)}
    maps["sub-4"] = thinned(brain(4), {17: 60, 53: 60})
    maps["sub-5"] = thinned(brain(5), {17: 0})
    maps["sub-6"] = thinned(brain(6), {53: 0})
    scans = written(tmp_path, maps)
    assert cohort_overlap(scans, tmp_path / "a", labels="common").labels == (1002,)
    found = cohort_overlap(scans, tmp_path / "b", labels="common", joined=True)
    assert found.labels == (17, 1002)
    scans += written(tmp_path, {"sub-7": thinned(brain(7), {17: 0, 53: 60})})
    found = cohort_overlap(scans, tmp_path / "c", labels="common", joined=True)
    assert found.labels == (1002,)
    assert cohort_overlap(scans, tmp_path / "d", labels="all", joined=True).labels == (17, 1002)


def test_common_structures_have_a_hundred_voxels_in_every_scan(tmp_path):
    maps = {f"sub-{i}": brain(i) for i in range(5)}
    maps["sub-1"] = np.where(maps["sub-1"] == 53, 0, maps["sub-1"])
    small = maps["sub-2"].copy()
    small[tuple(np.argwhere(small == 1002)[:30].T)] = 0  # 95 are left
    maps["sub-2"] = small
    found = cohort_overlap(written(tmp_path, maps), tmp_path / "w", labels="common")
    assert found.labels == (17,)


def test_a_scan_that_failed_does_not_say_what_is_common(tmp_path):
    maps = {f"sub-{i}": brain(i) for i in range(5)}
    maps["sub-1"] = np.where(maps["sub-1"] == 53, 0, maps["sub-1"])  # half a brain
    scans = written(tmp_path, maps)
    half = [replace(scan, votes=scan.name != "sub-1") for scan in scans]
    found = cohort_overlap(half, tmp_path / "w", labels="common")
    assert found.labels == (17, 53, 1002)
    none = [replace(scan, votes=False) for scan in scans]
    assert cohort_overlap(none, tmp_path / "v", labels="common").labels == (17, 1002)


def test_ids_are_those_asked_for(tmp_path):
    maps = {f"sub-{i}": brain(i) for i in range(4)}
    found = cohort_overlap(written(tmp_path, maps), tmp_path / "w", labels=(53, 999, 17))
    assert found.labels == (17, 53, 999)
    assert [row.label for row in found.rows["sub-0"]] == [17, 53]
    found = cohort_overlap(written(tmp_path, maps), tmp_path / "v", labels=(53, 999), joined=True)
    assert found.labels == (17, 999)


def test_the_memory_for_counting_voxels_does_not_depend_on_the_largest_id(tmp_path):
    scans = written(tmp_path, {"sub-0": brain(0, ids=(17, 53, 2**27))})
    tracemalloc.start()
    found = _count(scans, set())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.voxels["sub-0"][:, 0].tolist() == [17, 53, 2**27]
    assert most < 2**24


def test_odd_maps_are_refused_by_name_and_the_others_compared(tmp_path):
    maps = {f"sub-{i}": brain(i) for i in range(5)}
    scans = written(tmp_path, maps)
    odd = {
        "empty": np.zeros(SHAPE, np.int16),
        "floats": np.where(brain(1) > 0, 17.0, 0).astype(np.float32),
        "fractions": (brain(1) + 0.4).astype(np.float32),
        "grid": np.pad(brain(1), 2),
    }
    scans += written(tmp_path, odd)
    scans += written(tmp_path, {"shifted": brain(1)}, np.diag([2.0, 1.0, 1.0, 1.0]))
    (tmp_path / "torn_affine.nii.gz").write_bytes(b"no image")
    scans.append(LabelMaps("torn", "torn", tmp_path / "torn_affine.nii.gz", scans[0].full))
    found = cohort_overlap(scans, tmp_path / "w", labels="all")
    assert set(found.refused) == {"empty", "fractions", "grid", "shifted", "torn"}
    assert (
        "another grid (22 x 21 x 20) than the other scans' (18 x 17 x 16)"
        in (found.refused["grid"])
    )
    assert set(found.rows) == {*maps, "floats"}
    assert len(found.voters) == 6


def test_of_a_large_cohort_one_scan_is_in_memory_at_a_time(tmp_path, monkeypatch):
    alive = []

    class Counted(np.ndarray):
        def __array_finalize__(self, _):
            alive.append(weakref.ref(self))

    def read(path):
        return read_labels(path).view(Counted)

    scans = written(tmp_path, {f"sub-{i}": brain(i) for i in range(12)})
    many = [
        LabelMaps(f"sub-{i:03}", f"sub-{i:03}", scan.affine, scan.full)
        for i, scan in ((i, scans[i % 12]) for i in range(60))
    ]
    most = []
    monkeypatch.setattr("vxmprep.evaluation.cohort.read_labels", read)
    found = cohort_overlap(
        many,
        tmp_path / "w",
        labels=(17,),
        seen=lambda _: most.append(sum(one() is not None for one in alive)),
    )
    assert len(found.voters) == len(found.rows) == 60
    assert len(alive) > 240
    assert max(most) < 20
