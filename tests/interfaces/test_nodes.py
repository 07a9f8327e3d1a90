"""Each node once on small files: paths in, paths out, and the numbers of its function."""

import csv
import hashlib
import json
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import apply_affine, from_matvec
from nipype.interfaces.base import isdefined

from vxmprep import interfaces
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import write_affine, write_composite

SHIFT = from_matvec(np.eye(3), [2.0, 0.0, 0.0])
FLIP = np.array([-1.0, -1.0, 1.0])
SHAPE = (20, 22, 24)
AFFINE = from_matvec(np.eye(3), [-10.0, -11.0, -12.0])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Nodes write where they run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def image(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    nb.save(nb.Nifti1Image(data, affine), path)
    return str(path)


def texture(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).uniform(50, 200, size=shape).astype(np.float32)


def box(shape: tuple[int, ...] = SHAPE, margin: int = 4) -> np.ndarray:
    data = np.zeros(shape, np.uint8)
    data[margin:-margin, margin:-margin, margin:-margin] = 1
    return data


def values(path: str) -> np.ndarray:
    return np.asarray(nb.load(path).dataobj)


def outputs_of(name: str, **inputs):
    return getattr(interfaces, name)(**inputs).run().outputs


@pytest.fixture
def scan(folder) -> str:
    return image(folder / "scan.nii.gz", np.where(box() > 0, texture(), 0).astype(np.float32))


@pytest.fixture
def mask(folder) -> str:
    return image(folder / "given_mask.nii.gz", box())


@pytest.fixture
def affine_file(folder) -> str:
    write_affine(folder / "shift.txt", SHIFT)
    return str(folder / "shift.txt")


@pytest.fixture
def forward(folder) -> str:
    """Atlas to scan: 3 mm to the front, then the affine's 2 mm to the right."""
    grid = Grid(SHAPE, AFFINE).padded(4)
    field = np.zeros((*grid.shape, 3), np.float32)
    field[..., 1] = 3.0
    path = folder / "given_forward.h5"
    write_composite(path, affine=SHIFT, displacement=field, grid=grid, field_acts_first=True)
    return str(path)


@pytest.mark.parametrize("name", interfaces.__all__)
def test_every_trait_of_a_node_says_what_it_is(name):
    node = getattr(interfaces, name)()
    own = {"args", "environ"}
    for spec in (node.inputs, node._outputs()):
        for trait in spec.copyable_trait_names():
            assert trait in own or spec.trait(trait).desc, f"{name}.{trait}"


@pytest.mark.parametrize("name", interfaces.__all__)
def test_every_node_has_an_example(name):
    assert ">>> node" in getattr(interfaces, name).__doc__


def test_skull_strip_takes_a_stripped_scan_as_it_is(scan):
    found = outputs_of("SkullStrip", in_file=scan, method="auto")
    assert found.method == "none"
    np.testing.assert_array_equal(values(found.mask_file), box())


def test_skull_strip_uses_a_mask_made_elsewhere(scan, folder):
    # the scan is stripped, which its voxels tell; only the mask is replaced
    given = image(folder / "m.nii.gz", box(margin=6))
    found = outputs_of("SkullStrip", in_file=scan, mask_file=given)
    assert found.method == "none"
    np.testing.assert_array_equal(values(found.mask_file), box(margin=6))


def test_synthstrip_runs_freesurfers_program(scan):
    node = interfaces.SynthStrip(in_file=scan, use_gpu=True)
    assert node.cmdline == f"mri_synthstrip -i {scan} -m mask.nii.gz -g"
    assert Path(node._list_outputs()["mask_file"]) == Path("mask.nii.gz").absolute()


def test_bias_correct_writes_a_corrected_scan(folder):
    coarse = np.diag([6.0, 6.0, 6.0, 1.0])
    shape = (12, 13, 14)
    scan = image(folder / "a.nii", texture(shape), coarse)
    mask = image(folder / "b.nii", box(shape, 1), coarse)
    found = outputs_of("BiasCorrect", in_file=scan, mask_file=mask)
    assert values(found.out_file).shape == shape
    inside = box(shape, 1) > 0
    mean = texture(shape)[inside].mean()
    assert values(found.out_file)[inside].mean() == pytest.approx(mean, rel=1e-3)


def test_affine_align_writes_an_affine_and_its_judgement(scan, mask):
    found = outputs_of(
        "AffineAlign",
        in_file=scan, mask_file=mask, atlas_file=scan, atlas_mask=mask, method="none",
    )  # fmt: skip
    transform = sitk.ReadTransform(found.affine_file)
    np.testing.assert_allclose(transform.TransformPoint((1.0, 2.0, 3.0)), (1, 2, 3), atol=1e-9)
    summary = json.loads(Path(found.summary_file).read_text())
    assert summary["MaskOverlap"] == 1
    assert summary["Determinant"] == 1


def test_conform_brings_a_brain_through_the_affine_to_the_reference(scan, mask, affine_file):
    found = outputs_of(
        "Conform", in_file=scan, mask_file=mask, affine_file=affine_file, reference=scan
    )
    conformed = values(found.out_file)
    assert conformed.dtype == np.uint8
    # The point 2 mm to the right in the scan comes here.
    np.testing.assert_array_equal(conformed[:-2] > 0, box()[2:] > 0)


def test_a_brain_elsewhere_and_a_scan_without_one_are_named(folder, scan, mask, affine_file):
    nothing = image(folder / "nothing.nii.gz", np.zeros(SHAPE, np.float32))
    away = image(folder / "away.nii.gz", texture(), AWAY)
    with pytest.raises(ValueError, match=r"scan.nii.gz: the brain lies out.*; by .*shift.txt"):
        outputs_of(
            "Conform", in_file=scan, mask_file=mask, affine_file=affine_file, reference=away
        )
    with pytest.raises(ValueError, match=r"nothing.nii.gz: is 0 wherever .* marks a brain; give"):
        outputs_of("BiasCorrect", in_file=nothing, mask_file=mask)


def test_negative_labels_are_named(folder, segmentation):
    below = image(folder / "below.nii.gz", -values(segmentation))
    with pytest.raises(ValueError, match=r"below.nii.gz: holds negative labels, down to"):
        outputs_of("Overlap", fixed=segmentation, moving=below)


def test_register_without_iterations_writes_maps_that_are_the_affine(folder, affine_file):
    shape, world = (32, 32, 32), from_matvec(np.eye(3), [-16.0, -16.0, -16.0])
    inside = box(shape, 8)
    brain = image(folder / "n.nii", np.where(inside, texture(shape), 0).astype(np.uint8), world)
    found = outputs_of(
        "Register",
        moving=brain, fixed=brain, mask=image(folder / "k.nii", inside, world),
        affine_file=affine_file, iterations=0, num_threads=1,
    )  # fmt: skip
    points = np.random.default_rng(1).uniform(-8, 8, size=(10, 3))
    for path, shift in ((found.forward, 2.0), (found.inverse, -2.0)):
        transform = sitk.ReadTransform(path)
        moved = np.array([transform.TransformPoint(p) for p in (points * FLIP).tolist()]) * FLIP
        np.testing.assert_allclose(moved, points + np.array([shift, 0, 0]), atol=1e-6)
    assert "InverseResidualMaxmm" in json.loads(Path(found.summary_file).read_text())


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_apply_transform_resamples_through_both_members(interpolation, scan, forward):
    found = outputs_of(
        "ApplyTransform",
        in_file=scan, reference=scan, transform=forward, interpolation=interpolation,
    )  # fmt: skip
    result = values(found.out_file)
    np.testing.assert_allclose(result[:-2, :-3], values(scan)[2:, 3:], atol=0.01)


def test_apply_transform_puts_several_transforms_together_for_every_volume(
    folder, scan, forward, affine_file
):
    both = np.stack([values(scan), 2 * values(scan)], axis=-1)
    series = image(folder / "bold.nii.gz", both)
    found = outputs_of(
        "ApplyTransform", in_file=series, reference=scan, transform=[forward, affine_file]
    )
    np.testing.assert_allclose(values(found.out_file)[:-4, :-3], both[4:, 3:], atol=0.01)


def test_apply_transform_modulates(folder, scan, forward):
    write_affine(folder / "double.txt", np.diag([2.0, 1.0, 1.0, 1.0]))
    inputs = {"in_file": scan, "reference": scan, "transform": str(folder / "double.txt")}
    plain = values(outputs_of("ApplyTransform", **inputs).out_file)
    np.testing.assert_allclose(
        values(outputs_of("ApplyTransform", modulation="full", **inputs).out_file), 2 * plain
    )


def test_overlap_measures_every_label_and_the_mean_of_those_on_both_sides(folder):
    fixed, moving = np.zeros(SHAPE, np.int16), np.zeros(SHAPE, np.int16)
    fixed[:4], fixed[4:8], fixed[8:10] = 17, 53, 99
    moving[2:4], moving[4:8] = 17, 53
    found = outputs_of(
        "Overlap",
        fixed=image(folder / "f.nii.gz", fixed), moving=image(folder / "m.nii.gz", moving),
    )  # fmt: skip
    rows = list(csv.DictReader(Path(found.out_file).read_text().splitlines(), delimiter="\t"))
    assert [(r["name"], r["dice"]) for r in rows] == [
        ("Left-Hippocampus", "0.6667"), ("Right-Hippocampus", "1.0000"), ("label-99", "n/a"),
    ]  # fmt: skip
    assert found.mean_dice == pytest.approx((2 / 3 + 1) / 2)
    assert found.structures == 2


def test_overlap_counts_parcels_as_cortex_where_it_is_asked_to(folder):
    """An aseg and an aparc+aseg have no number of the cortex in common."""
    aseg, parcels = np.zeros(SHAPE, np.int16), np.zeros(SHAPE, np.int16)
    aseg[:8], parcels[:4], parcels[4:8] = 3, 1024, 1030
    maps = {
        "fixed": image(folder / "aseg.nii.gz", aseg),
        "moving": image(folder / "aparc+aseg.nii.gz", parcels),
    }
    assert outputs_of("Overlap", **maps).structures == 0
    joined = outputs_of("Overlap", **maps, join_parcels=True)
    assert (joined.structures, joined.mean_dice) == (1, 1)


def test_overlap_refuses_intensities_and_labels_that_no_map_holds(folder, segmentation):
    intensities = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    scan = image(folder / "T1w.nii.gz", intensities)
    with pytest.raises(ValueError, match=r"T1w.nii.gz: holds intensities, not labels .*; give a"):
        outputs_of("Overlap", fixed=segmentation, moving=scan)
    with pytest.raises(ValueError, match=r"labels: neither .* holds any of 1999, 2999; give some"):
        outputs_of("Overlap", fixed=segmentation, moving=segmentation, labels=[1999, 2999])


def test_overlap_refuses_maps_that_lie_elsewhere(folder, mask):
    other = image(folder / "o.nii.gz", box(), SHIFT @ AFFINE)
    with pytest.raises(ValueError, match="not on the grid of"):
        outputs_of("Overlap", fixed=mask, moving=other)


@pytest.fixture
def segmentation(folder) -> str:
    labels = np.where(box() > 0, 2 + np.indices(SHAPE)[0] // 2, 0)
    return image(folder / "labels.nii.gz", labels.astype(np.int16))


def test_carry_labels_brings_labels_by_all_and_by_the_affine_alone(
    segmentation, mask, scan, forward
):
    found = outputs_of(
        "CarryLabels",
        labels_file=segmentation, mask_file=mask, reference=scan, transform=forward,
    )  # fmt: skip
    labels = values(segmentation)
    np.testing.assert_array_equal(values(found.full)[:-2, :-3], labels[2:, 3:])
    np.testing.assert_array_equal(values(found.affine)[:-2], labels[2:])
    assert found.flags == []


def test_carry_labels_refuses_those_of_another_scan(segmentation, mask, scan, forward, folder):
    away = from_matvec(np.eye(3), [300.0, 0, 0])
    elsewhere = image(folder / "e.nii", values(segmentation), away @ AFFINE)
    found = outputs_of(
        "CarryLabels", labels_file=elsewhere, mask_file=mask, reference=scan, transform=forward
    )
    assert not isdefined(found.full)
    assert len(found.flags) == 1
    assert found.flags[0].startswith(elsewhere)


def test_carry_labels_without_labels_does_nothing(mask, scan, forward):
    found = outputs_of("CarryLabels", mask_file=mask, reference=scan, transform=forward)
    assert not isdefined(found.full)
    assert found.flags == []


def test_jacobian_map_writes_the_determinant_inside_the_mask_and_counts_folding(mask, forward):
    found = outputs_of("JacobianMap", transform=forward, mask_file=mask)
    np.testing.assert_allclose(values(found.out_file), box().astype(float), atol=1e-6)
    summary = json.loads(Path(found.summary_file).read_text())
    assert summary["FoldedVoxels"] == 0
    assert summary["MaskVoxels"] == box().sum()


def test_evaluate_registration_writes_the_table_and_the_metrics(segmentation, folder):
    (folder / "a.json").write_text('{"Similarity": 0.5, "Flags": ["poor"]}')
    (folder / "sidecar.json").write_text('{"Sources": ["x"], "Measures": {"Residual": 0.1}}')
    labels = values(segmentation)
    lost = image(folder / "l.nii.gz", np.where(labels == 8, 0, labels))
    found = outputs_of(
        "EvaluateRegistration",
        atlas_labels=segmentation, affine_labels=lost, full_labels=segmentation,
        reference="atlas (x)", affine_summary=str(folder / "a.json"),
        register_summary=str(folder / "sidecar.json"), scan_flags=["first"], flags=["late"],
    )  # fmt: skip
    with Path(found.dice_file).open(newline="") as lines:
        rows = {row["label"]: row for row in csv.DictReader(lines, delimiter="\t")}
    assert (rows["8"]["dice_affine"], rows["8"]["dice"]) == ("n/a", "1.0000")
    metrics = json.loads(Path(found.metrics_file).read_text())
    assert metrics["Flags"] == ["poor", "first", "late"]
    assert metrics["Affine"] == {"Similarity": 0.5}
    assert metrics["Deformable"] == {"Residual": 0.1}
    assert metrics["Overlap"]["Reference"] == "atlas (x)"


def test_evaluate_registration_without_labels_writes_a_header(folder):
    (folder / "a.json").write_text("{}")
    found = outputs_of("EvaluateRegistration", affine_summary=str(folder / "a.json"))
    assert len(Path(found.dice_file).read_text().splitlines()) == 1
    assert json.loads(Path(found.metrics_file).read_text())["Overlap"] == {}


def test_prepare_atlas_writes_the_atlas_on_both_grids(small_brain, folder):
    nb.save(small_brain, folder / "atlas.nii.gz")
    found = outputs_of("PrepareAtlas", image=str(folder / "atlas.nii.gz"))
    assert nb.load(found.brain).shape == small_brain.shape
    assert nb.load(found.mask).shape == small_brain.shape
    assert not isdefined(found.labels)
    network = nb.load(found.network_brain)
    assert all(n % 16 == 0 for n in network.shape)
    np.testing.assert_array_equal(nb.load(found.network_mask).affine, network.affine)
    middle = apply_affine(network.affine, np.argwhere(values(found.network_mask))).mean(axis=0)
    brain = apply_affine(small_brain.affine, np.argwhere(values(found.mask))).mean(axis=0)
    np.testing.assert_allclose(middle, brain, atol=0.5)


def test_save_scan_writes_what_it_is_given(scan, mask, folder):
    found = outputs_of(
        "SaveScan",
        output_dir=str(folder / "out"), entities=[("subject", "01")], space="MNI",
        source="bids:raw:x", strip_method="none", common={"Atlas": "a"}, t1w=scan, mask=mask,
        originals=[scan], flags=["odd"],
    )  # fmt: skip
    anat = folder / "out" / "sub-01" / "anat"
    assert found.files == {
        "t1w": str(anat / "sub-01_desc-preproc_T1w.nii.gz"),
        "mask": str(anat / "sub-01_desc-brain_mask.nii.gz"),
    }
    assert (found.t1w, found.mask) == (found.files["t1w"], found.files["mask"])
    assert found.checksums == {scan: hashlib.sha256(Path(scan).read_bytes()).hexdigest()}
    assert (found.flags, found.strip_method) == (["odd"], "none")
    sidecar = json.loads((anat / "sub-01_desc-preproc_T1w.json").read_text())
    assert sidecar["SkullStripped"] is True
    assert sidecar["Sources"] == ["bids:raw:x"]


def test_save_scan_gathers_the_flags_of_the_measures_in_the_order_of_steps(
    affine_file, forward, folder
):
    files = {"affine": affine_file, "forward": forward}
    for name, flag in (("affine_summary", "turned"), ("register_summary", "b"), ("metrics", "a")):
        files[name] = str(folder / f"{name}.json")
        Path(files[name]).write_text(json.dumps({"Similarity": 0.1, "Flags": [flag]}))
    found = outputs_of(
        "SaveScan",
        output_dir=str(folder / "out"), entities=[("subject", "01")], space="MNI",
        source="bids:raw:x", **files,
    )  # fmt: skip
    assert found.flags == ["turned", "b", "a"]
    assert json.loads(Path(found.affine_summary).read_text())["Measures"]["Similarity"] == 0.1


AWAY = from_matvec(np.eye(3), [50.0, -11.0, -12.0])


@pytest.mark.parametrize(
    ("name", "odd", "message"),
    [
        ("BiasCorrect", "elsewhere", "not on the grid of"),
        ("BiasCorrect", "empty", "marks no voxel"),
        ("AffineAlign", "elsewhere", "not on the grid of"),
        ("Conform", "smaller", "not on the grid of"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(name, odd, message, folder, scan, affine_file):
    masks = {
        "elsewhere": image(folder / "elsewhere.nii", box(), AWAY),
        "smaller": image(folder / "smaller.nii", box((18, 22, 24))),
        "empty": image(folder / "empty.nii", 0 * box()),
    }
    more = {
        "AffineAlign": {"atlas_file": scan, "atlas_mask": masks["elsewhere"]},
        "Conform": {"affine_file": affine_file, "reference": scan},
    }
    with pytest.raises(ValueError, match=f"{odd}.nii: {message}"):
        outputs_of(name, in_file=scan, mask_file=masks[odd], **more.get(name, {}))


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ("elsewhere", "moving.nii: not on the grid of .*fixed.nii; Conform"),
        ("fractions", "moving.nii: its intensities reach 1, not 255 as those of Conform"),
        ("own scale", "fixed.nii: its intensities reach 98, not 255 as those of network_brain"),
    ],
)
def test_images_that_were_not_conformed_are_not_registered(
    odd, message, folder, mask, affine_file
):
    tops = {"fractions": (1, 255), "own scale": (255, 98)}.get(odd, (255, 255))
    affines = (AWAY if odd == "elsewhere" else AFFINE), AFFINE
    moving, fixed = (
        image(folder / f"{name}.nii", texture() * np.float32(top / texture().max()), affine)
        for name, top, affine in zip(("moving", "fixed"), tops, affines, strict=True)
    )
    with pytest.raises(ValueError, match=message):
        outputs_of(
            "Register", moving=moving, fixed=fixed, mask=mask, affine_file=affine_file,
            iterations=1,
        )  # fmt: skip


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_label_maps_are_not_blended(interpolation, folder, segmentation, forward):
    named = folder / "sub-01_desc-aseg_dseg.nii"
    nb.save(nb.load(segmentation), named)
    with pytest.raises(ValueError, match=f"_dseg.nii: by its name a label map.*{interpolation}"):
        outputs_of(
            "ApplyTransform", in_file=str(named), reference=str(named), transform=[forward],
            interpolation=interpolation,
        )  # fmt: skip
    share = image(folder / "brain_mask.nii", box().astype(np.float32))
    found = outputs_of(
        "ApplyTransform", in_file=share, reference=share, transform=[forward],
        interpolation=interpolation,
    )  # fmt: skip
    assert values(found.out_file).max() > 0.9


def test_a_mask_that_no_field_reaches_has_no_determinant(folder, forward):
    away = image(folder / "away_mask.nii", box(), AWAY)
    with pytest.raises(ValueError, match=r"away_mask.nii: lies outside the field of .*forward.h5"):
        outputs_of("JacobianMap", transform=forward, mask_file=away)


def test_all_fields_of_a_transform_have_their_part_in_its_determinant(folder, mask):
    grid = Grid(SHAPE, AFFINE).padded(8)
    places = grid.world(np.stack(np.indices(grid.shape), -1).reshape(-1, 3))
    paths = []
    for number, factor in enumerate((0.1, 0.2)):
        field = (factor * places).reshape(*grid.shape, 3).astype(np.float32)
        field[..., 1:] = 0
        paths.append(folder / f"{number}.h5")
        write_composite(
            paths[-1], affine=SHIFT, displacement=field, grid=grid, field_acts_first=True
        )
    both = sitk.CompositeTransform([sitk.ReadTransform(str(path)) for path in paths])
    both.FlattenTransform()
    sitk.WriteTransform(both, str(folder / "both.h5"))
    found = outputs_of("JacobianMap", transform=str(folder / "both.h5"), mask_file=mask)
    inside = values(found.out_file)[box() > 0]
    np.testing.assert_allclose(inside, 1.1 * 1.2, rtol=1e-3)
    write_affine(folder / "shift.txt", SHIFT)
    with pytest.raises(ValueError, match=r"shift.txt: holds no displacement field"):
        outputs_of("JacobianMap", transform=str(folder / "shift.txt"), mask_file=mask)


def test_a_network_is_given_by_its_file_or_as_the_bundled_one(mask, affine_file):
    from vxmprep.config import BUNDLED

    node = interfaces.Register(model="bundled")
    assert node.inputs.model == "bundled"
    assert interfaces.Register(model=str(BUNDLED)).inputs.model == str(BUNDLED)
    with pytest.raises(Exception, match=r"model.*nowhere.pt"):
        interfaces.Register(model="nowhere.pt")
    given = {"images": [mask], "atlas_image": mask, "atlas_mask": mask, "folder": "models/a"}
    training = interfaces.TrainVoxelMorph(**given, initial_model="bundled")
    assert training._config().initial_model == BUNDLED


@pytest.mark.parametrize("key", ["names", "participants", "labels", "sites"])
def test_a_training_with_a_list_that_does_not_fit_its_images_is_refused(key, mask):
    given = {"images": [mask] * 3, "atlas_image": mask, "atlas_mask": mask, "folder": "models/a"}
    values = [mask, mask] if key == "labels" else ["a", "b"]
    with pytest.raises(ValueError, match=f"^{key}: 2 given for 3 images; give one for each$"):
        outputs_of("TrainVoxelMorph", **given, **{key: values})


@pytest.mark.parametrize(("text", "message"), [("not", "not JSON"), ("[1]", "no object")])
def test_a_summary_that_is_none_is_named(text, message, folder, affine_file):
    (folder / "odd.json").write_text(text)
    with pytest.raises(ValueError, match=f"odd.json: .*{message}"):
        outputs_of("EvaluateRegistration", affine_summary=str(folder / "odd.json"))
    with pytest.raises(ValueError, match=f"odd.json: .*{message}"):
        outputs_of(
            "SaveScan",
            output_dir=str(folder / "out"), entities=[("subject", "01")], space="MNI",
            source="x", affine=affine_file, affine_summary=str(folder / "odd.json"),
        )  # fmt: skip
    assert not (folder / "out").exists()


def test_label_maps_with_fractions_are_not_compared(folder, segmentation):
    halves = image(folder / "halves.nii.gz", values(segmentation) * 0.5)
    with pytest.raises(ValueError, match=r"halves.nii.gz: holds fractions"):
        outputs_of("Overlap", fixed=segmentation, moving=halves)
    given = {"atlas_labels": segmentation, "affine_labels": segmentation}
    with pytest.raises(ValueError, match=r"halves.nii.gz: holds fractions"):
        outputs_of("EvaluateRegistration", **given, full_labels=halves)


def test_a_mask_of_another_scan_is_named(folder, scan):
    away = image(folder / "away.nii", box(), AWAY)
    with pytest.raises(ValueError, match=r"away.nii: the brain mask given does not overlap"):
        outputs_of("SkullStrip", in_file=scan, mask_file=away)


def test_images_elsewhere_are_not_compared(folder, scan, mask):
    away = image(folder / "away.nii.gz", texture(), AWAY)
    with pytest.raises(ValueError, match=r"away.nii.gz: not on the grid of .*scan.nii.gz"):
        outputs_of(
            "EvaluateRegistration", atlas=scan, atlas_mask=mask, warped=away, warped_mask=away
        )


def test_label_maps_elsewhere_are_not_evaluated(folder, segmentation):
    away = image(folder / "away.nii.gz", values(segmentation), AWAY)
    with pytest.raises(ValueError, match=r"away.nii.gz: not on the grid of .*labels.nii.gz"):
        outputs_of(
            "EvaluateRegistration",
            atlas_labels=segmentation, affine_labels=segmentation, full_labels=away,
        )  # fmt: skip


def test_large_ids_keep_their_names_in_the_overlap(folder):
    # those of the Allen atlas; single precision would join them
    ids = np.full(SHAPE, 614454277, np.int32)
    ids[:10] += 1
    path = image(folder / "allen.nii.gz", ids)
    found = outputs_of("Overlap", fixed=path, moving=path)
    assert (found.structures, found.mean_dice) == (2, 1)


@pytest.mark.parametrize("interpolation", ["nearest", "label"])
def test_labels_are_not_modulated(interpolation, segmentation, affine_file):
    with pytest.raises(ValueError, match=r"labels.nii.gz: labels cannot be modulated"):
        outputs_of(
            "ApplyTransform",
            in_file=segmentation, reference=segmentation, transform=affine_file,
            interpolation=interpolation, modulation="full",
        )  # fmt: skip


def test_an_affine_with_a_field_is_not_taken_for_the_affine(scan, mask, forward):
    with pytest.raises(ValueError, match=r"given_forward.h5: not an affine alone"):
        outputs_of("Conform", in_file=scan, mask_file=mask, affine_file=forward, reference=scan)
