"""The atlas's labels, carried to scans."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
import torch

from vxmprep.evaluation.overlap import overlaps
from vxmprep.training import carrying
from vxmprep.training.carrying import Carrier
from vxmprep.training.cohort import open_cohort
from vxmprep.training.config import read_config
from vxmprep.training.data import Atlas
from vxmprep.training.errors import TrainingError
from vxmprep.training.run import run

CPU = torch.device("cpu")
LARGE = (2, 3, 41, 42)


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nb.load(path).dataobj)


def dice(one: np.ndarray, other: np.ndarray, labels=LARGE) -> float:
    found = overlaps(one, other)
    return float(np.mean([found[label].dice for label in labels]))


@pytest.fixture
def carrier(brains, tmp_path) -> Carrier:
    image, mask, labels = (voxels(path) for path in (brains.image, brains.mask, brains.labels))
    return Carrier(Atlas("small", image, mask > 0, labels), tmp_path / "kept", CPU)


@pytest.fixture
def registered(monkeypatch) -> list:
    """Counts registrations."""
    count, refine = [], carrying.refine
    monkeypatch.setattr(carrying, "refine", lambda *args: count.append(1) or refine(*args))
    return count


def test_labels_come_to_lie_where_the_scan_has_them(brains, carrier):
    for scan in brains.scans[:3]:
        known = voxels(scan.labels)
        found = carrier.labels_of(voxels(scan.image))
        assert found.dtype == np.int16
        assert dice(found, known) > dice(voxels(brains.labels), known) + 0.15


def test_labels_of_a_person_come_to_lie_on_another(real_pair, tmp_path):
    images, labels = real_pair[:2], real_pair[3:]
    moving, fixed = (np.rint(255 * image[0, 0].numpy()).astype(np.uint8) for image in images)
    known, own = (each[0, 0].numpy().astype(np.int16) for each in labels)
    carrier = Carrier(Atlas("other", fixed, fixed > 0, own), tmp_path / "kept", CPU)
    structures = (2, 3, 4, 10, 11, 12, 17, 41, 42, 43, 49, 50, 51, 53)
    found = carrier.labels_of(moving)
    assert dice(found, known, structures) > dice(own, known, structures) + 0.1


def test_a_scan_is_registered_once(brains, carrier, registered):
    first, other = (voxels(scan.image) for scan in brains.scans[:2])
    found = [carrier.labels_of(image) for image in (first, first, other)]
    assert len(registered) == 2
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def damaged(content: bytes) -> list[bytes]:
    middle = len(content) // 2
    return [b"", content[:100], content[:middle] + bytes(64) + content[middle + 64 :]]


def test_a_damaged_file_of_carried_labels_is_made_anew(brains, carrier):
    image = voxels(brains.scans[0].image)
    found = carrier.labels_of(image)
    (path,) = carrier.kept.iterdir()
    whole = path.read_bytes()
    for content in damaged(whole):
        path.write_bytes(content)
        np.testing.assert_array_equal(carrier.labels_of(image), found)
        assert path.read_bytes()[:2] == b"PK"


def test_a_packed_cohort_knows_whose_its_labels_are(brains, carrier, tmp_path, told):
    scans = [brains.scans[0], replace(brains.scans[1], labels=None)]
    own = open_cohort(scans, brains.grid, tmp_path / "c", voxel_size=2)
    pack = {"voxel_size": 2, "carrier": carrier, "tell": told}
    carried = open_cohort(scans, brains.grid, tmp_path / "c", **pack)
    for index, scan in enumerate(scans):
        whole = carrier.labels_of(voxels(scan.image))
        np.testing.assert_array_equal(carried.labels_of(index), whole[::2, ::2, ::2])
    assert "20 s of a processor each: 40 s" in told.text
    assert "packed 1 of 2 scans" in told.text
    told.clear()
    assert (
        open_cohort(scans, brains.grid, tmp_path / "c", **pack).fingerprint == carried.fingerprint
    )
    assert "packing" not in told.text
    again = open_cohort(scans, brains.grid, tmp_path / "c", voxel_size=2)
    assert again.fingerprint == own.fingerprint != carried.fingerprint


def test_what_was_carried_before_a_kill_is_not_done_again(
    brains, carrier, tmp_path, registered, monkeypatch
):
    def killed(image):
        if len(registered) == 2:
            raise KeyboardInterrupt
        return Carrier.labels_of(carrier, image)

    monkeypatch.setattr(carrier, "labels_of", killed)
    with pytest.raises(KeyboardInterrupt):
        open_cohort(brains.scans[:3], brains.grid, tmp_path / "c", carrier=carrier)
    monkeypatch.undo()
    again = []
    refine = carrying.refine
    monkeypatch.setattr(carrying, "refine", lambda *args: again.append(1) or refine(*args))
    cohort = open_cohort(brains.scans[:3], brains.grid, tmp_path / "c", carrier=carrier)
    assert len(again) == 1
    assert len(cohort.labels) == 3


def trained(brains, folder: Path, tell=print, **settings) -> Path:
    scans = [replace(scan, labels=None) for scan in brains.scans[:3]]
    settings = {
        "features": [[4, 8], [8, 8, 4]], "iterations": 2, "device": "cpu", "precision": "float32",
        "threads": 1, "segmentation_weight": 0.1, "segmentations": "atlas", **settings,
    }  # fmt: skip
    return run(read_config(brains.toml(folder, scans, **settings)), tell)


def test_a_training_without_segmentations_has_the_atlases_and_says_so(brains, tmp_path, told):
    trained(brains, tmp_path / "m", told)
    assert "2 of 2 training scans have labels, the atlas's" in told.text
    assert "Dice" in next(line for line in told if line.startswith("validation after 0"))
    card = (tmp_path / "m" / "README.md").read_text()
    assert "| segmentations | atlas |" in card
    assert "no evaluation against anatomy" in card
    known = json.loads((tmp_path / "m" / "training.json").read_text())
    assert known["segmentations"] == "atlas"


def test_an_atlas_without_labels_has_none_to_carry(brains, tmp_path, refused, told):
    bare = replace(brains, labels=brains.image)
    path = bare.toml(
        tmp_path / "m", brains.scans[:1], segmentation_weight=1, segmentations="atlas"
    )
    text = "".join(
        line
        for line in path.read_text().splitlines(keepends=True)
        if line != f'labels = "{bare.labels}"\n'
    )
    path.write_text(text)
    message = refused(TrainingError, run, read_config(path), told)
    assert "the atlas has no labels; give them, or segmentations = 'scans'" in message
    assert not any(line.startswith("packing") for line in told)
