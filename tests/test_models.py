"""The network that comes along: small, described, and better than the affine on a real scan."""

import json

import nibabel as nb
import numpy as np
import pytest

from vxmprep.config import BUNDLED, DEFAULT_ATLAS
from vxmprep.evaluation.folding import folding, jacobian_determinant
from vxmprep.evaluation.overlap import overlaps
from vxmprep.morph.checkpoint import load_checkpoint
from vxmprep.preparation.align import align
from vxmprep.preparation.brain import stripped_mask
from vxmprep.preparation.conform import conform
from vxmprep.registration import register
from vxmprep.spatial.files import checksum
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import read_transform
from vxmprep.spatial.resample import resample
from vxmprep.training.folder import ModelFolder
from vxmprep.training.initial import find_initial
from vxmprep.training.settings import TrainingSettings

MOST_BYTES = 3_000_000
STRUCTURES = (4, 43, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53)


def test_its_card_is_that_of_the_file():
    card = json.loads(BUNDLED.with_name("card.json").read_text(encoding="utf-8"))
    text = BUNDLED.with_name("README.md").read_text(encoding="utf-8")
    assert card["checksum"] == checksum(BUNDLED)
    assert card["checksum"] in text
    assert BUNDLED.stat().st_size <= MOST_BYTES
    description = load_checkpoint(BUNDLED).description
    assert description["atlas"]["name"] == DEFAULT_ATLAS
    assert description["training"] == card["training"]
    assert "CC0" in text


@pytest.fixture(scope="module")
def person(shared_data, atlas):
    """A scan of another scanner than those it was trained on: conformed, labels, affine."""
    cohort = shared_data / "labelled-cohort"
    scan = nb.load(cohort / "sub-1001" / "anat" / "sub-1001_T1w.nii.gz")
    manual = cohort / "derivatives" / "manual" / "sub-1001" / "anat"
    labels = nb.load(manual / "sub-1001_desc-aseg_dseg.nii.gz")
    mask = stripped_mask(scan)
    found = align(scan, mask, atlas.brain, atlas.mask)
    conformed = conform(scan, mask, Grid.of(atlas.network_brain), found.atlas_to_scan)
    return conformed, labels, found.atlas_to_scan


def test_alone_it_brings_a_real_scan_closer_to_the_atlas_without_folds(person, atlas, tmp_path):
    conformed, labels, affine = person
    found = register(
        conformed,
        atlas.network_brain,
        atlas.network_mask,
        model=BUNDLED,
        iterations=0,
        atlas_to_scan=affine,
    )
    forward = tmp_path / "forward.h5"
    found.write(affine, forward, tmp_path / "inverse.h5")
    grid = Grid.of(atlas.network_brain)
    reference = np.asarray(atlas.network_labels.dataobj)

    def dice(transform) -> float:
        warped = np.asarray(resample(labels, grid, transform, nearest=True).dataobj)
        each = overlaps(reference, warped.astype(reference.dtype))
        return float(np.mean([each[label].dice for label in STRUCTURES]))

    # The atlas's labels follow another protocol than those drawn by hand: 0.737 becomes 0.763.
    assert dice(read_transform(forward)) > dice(affine) + 0.02
    assert found.residual_p99 < 0.5
    determinant = np.asarray(jacobian_determinant(read_transform(forward), grid).dataobj)
    inside = np.asarray(atlas.network_mask.dataobj) > 0
    assert folding(determinant, inside).percent < 0.01


def test_a_training_can_start_from_it(tmp_path):
    fitting = TrainingSettings(voxel_size=2, field_resolution="full", integration_steps=6)
    found = find_initial(BUNDLED, fitting, ModelFolder(tmp_path / "new"))
    assert found.checksum == checksum(BUNDLED)
