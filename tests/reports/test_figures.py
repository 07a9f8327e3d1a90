"""Pictures show what the files hold."""

import nibabel as nb
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from vxmprep.interfaces import DrawFigures
from vxmprep.reports.contents import FIGURES, OF_PREPARATION, OF_REGISTRATION
from vxmprep.reports.figures import (
    Window,
    displacements,
    draw_brain,
    draw_contours,
    draw_jacobian,
    draw_mask,
)
from vxmprep.reports.overlap import draw_dice, joined
from vxmprep.reports.planes import Mosaic
from vxmprep.reports.scan import draw_scan
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import write_affine, write_composite


@pytest.fixture(scope="module")
def mask(small_brain) -> nb.Nifti1Image:
    data = (np.asarray(small_brain.dataobj) > 0).astype(np.uint8)
    return nb.Nifti1Image(data, small_brain.affine)


def pixels(path, mode="RGB") -> np.ndarray:
    return np.asarray(Image.open(path).convert(mode)).astype(int)


def colored(picture: np.ndarray, red: bool, green: bool, blue: bool) -> np.ndarray:
    """Find pixels whose strong channels are these alone."""
    strong = picture > picture.mean(axis=2, keepdims=True) + 30
    return (strong == np.array([red, green, blue])).all(axis=2)


def test_the_outline_of_the_mask_lies_on_its_border(tmp_path, small_brain, mask):
    picture = pixels(draw_mask(tmp_path / "mask.webp", small_brain, mask))
    mosaic = Mosaic.of(mask)
    inside = mosaic.picture(mosaic.sample(mask)) > 0.5
    scale = picture.shape[1] / mosaic.shape[1]
    rows, columns = np.nonzero(colored(picture, True, False, False))
    assert len(rows) > 1000
    near = [
        inside[r - 2 : r + 3, c - 2 : c + 3]
        for r, c in zip((rows / scale).astype(int), (columns / scale).astype(int), strict=True)
        if 2 < r < inside.shape[0] - 3
    ]
    mixed = np.mean([part.any() and not part.all() for part in near])
    assert mixed > 0.98


def test_a_volume_that_is_kept_is_white_growth_is_red_and_folding_is_green(
    tmp_path, small_brain, mask
):
    inside = np.asarray(mask.dataobj) > 0
    middle = inside.shape[0] // 2
    jacobian = np.ones(inside.shape, np.float32)
    jacobian[:middle] = 2.5
    mosaic = Mosaic.of(mask)

    def draw(values) -> np.ndarray:
        image = nb.Nifti1Image(np.where(inside, values, 0).astype(np.float32), mask.affine)
        args = (mosaic, small_brain, image, mask)
        return pixels(draw_jacobian(tmp_path / "jacobian.webp", *args))[:-70]

    picture = draw(jacobian)
    red, blue = (
        colored(picture, *way).sum() for way in ((True, False, False), (False, False, True))
    )
    assert red > 10 * max(blue, 1)
    assert not colored(picture, False, True, False).any()
    rightward = small_brain.affine[0, 0] > 0
    scale = picture.shape[1] / mosaic.shape[1]
    (left,) = [c for p, n, _, c in mosaic.corners() if (p.name, n) == ("coronal", 3)]
    (top,) = [r for p, n, r, _ in mosaic.corners() if (p.name, n) == ("coronal", 3)]
    half = (mosaic.planes[1].grid.shape[0] // 2) * scale
    first, corner = int(left * scale), int(top * scale)
    tile = colored(picture, True, False, False)[corner : corner + int(100 * scale)]
    sides = [tile[:, first + int(i * half) : first + int((i + 1) * half)].mean() for i in (0, 1)]
    assert (sides[0] > sides[1] + 0.1) == rightward
    jacobian[20:40, 30:40, 20:40] = -0.2
    assert colored(draw(jacobian), False, True, False).sum() > 50


def test_contours_are_drawn_on_nothing_and_without_labels_around_the_brain(tmp_path, mask):
    labels = np.zeros(mask.shape, np.int32)
    labels[20:40, 20:50, 20:40] = 1035  # a parcel of the cortex
    labels[25:30, 30:40, 25:35] = 10
    image = nb.Nifti1Image(labels, mask.affine)
    mosaic = Mosaic.of(mask)
    with_labels = pixels(draw_contours(tmp_path / "a.webp", mosaic, mask, image), "RGBA")
    without = pixels(draw_contours(tmp_path / "b.webp", mosaic, mask, None), "RGBA")
    for picture in (with_labels, without):
        opaque = picture[..., 3] > 128
        assert 0.001 < opaque.mean() < 0.1
    strong = with_labels[with_labels[..., 3] > 200][:, :3]
    assert (np.abs(strong - (0xFF, 0xD1, 0x66)).max(axis=1) < 30).any(), "cerebrum"
    assert (np.abs(strong - (0xFF, 0x5D, 0x8F)).max(axis=1) < 30).any(), "thalamus"


def test_a_field_is_read_in_the_world_s_directions(tmp_path):
    grid = Grid((10, 11, 12), nb.affines.from_matvec(np.diag([-3.0, 3.0, 3.0]), (12, -15, -15)))
    shift = np.broadcast_to(np.float32([1.5, -2.5, 0.5]), (*grid.shape, 3))
    path = tmp_path / "forward.h5"
    write_composite(path, affine=np.eye(4), displacement=shift, grid=grid, field_acts_first=True)
    inner = Grid((4, 4, 4), nb.affines.from_matvec(np.eye(3), (-6, -6, -6)))
    found = displacements(inner, sitk.ReadTransform(str(path)))
    assert np.allclose(found, (1.5, -2.5, 0.5), atol=1e-5)


def test_intensities_are_shown_from_nothing_to_somewhat_above_the_bright_end(small_brain, mask):
    window = Window.of(small_brain, np.asarray(mask.dataobj) > 0)
    assert window.low == 0
    shown = window(np.asarray(small_brain.dataobj))
    assert 0.85 < np.percentile(shown[np.asarray(mask.dataobj) > 0], 99.5) < 0.95


def row(label: int, name: str, affine: str, full: str) -> dict:
    return {"label": str(label), "name": name, "dice_affine": affine, "dice": full}


ROWS = [
    row(10, "Left-Thalamus-Proper", "0.6", "0.8"),
    row(49, "Right-Thalamus-Proper", "0.7", "0.9"),
    row(16, "Brain-Stem", "0.9", "0.95"),
    row(31, "Left-choroid-plexus", "n/a", "0.2"),
    row(77, "WM-hypointensities", "0.1", "0.1"),
]


def test_left_and_right_are_joined_best_first_and_what_has_no_value_is_left_out(tmp_path):
    found = joined(ROWS)
    assert list(found) == ["Brain Stem", "Thalamus Proper"]
    assert found["Thalamus Proper"] == pytest.approx((0.65, 0.85))
    assert draw_dice(tmp_path / "dice.webp", ROWS).stat().st_size < 300_000
    with pytest.raises(ValueError, match="no structure"):
        draw_dice(tmp_path / "none.webp", ROWS[3:])


def test_a_scan_that_lies_on_the_atlas_by_its_affine_looks_like_it(tmp_path, written):
    made, problems = draw_scan(written, tmp_path)
    assert problems == []
    optional = {"figure_jacobian", "figure_dice"}  # there are no files for them
    assert set(made) == set(FIGURES) - optional
    assert all(path.stat().st_size < 300_000 for name, path in made.items() if name != "viewer")
    atlas, affine, full = (pixels(made[f"figure_{name}"]) for name in ("atlas", "affine", "full"))
    assert atlas.shape == affine.shape == full.shape
    assert np.abs(atlas - full).mean() < 2
    assert np.abs(atlas - affine).mean() < 2
    assert atlas.std() > 20


def test_a_mask_of_values_beyond_a_byte_is_drawn(tmp_path, written):
    mask = nb.load(written["mask"])
    large = nb.Nifti1Image(256 * np.asarray(mask.dataobj).astype(np.int16), mask.affine)
    nb.save(large, tmp_path / "large.nii")
    first, _ = draw_scan(written, tmp_path, ["figure_mask"])
    before = first["figure_mask"].read_bytes()
    second, _ = draw_scan({**written, "mask": tmp_path / "large.nii"}, tmp_path, ["figure_mask"])
    assert second["figure_mask"].read_bytes() == before


def test_an_affine_alone_has_the_pictures_that_need_no_more(tmp_path, written, drawn):
    paths = {name: path for name, path in written.items() if name != "forward"}
    paths["affine"] = tmp_path / "affine.txt"
    write_affine(paths["affine"], nb.affines.from_matvec(np.eye(3), (6, 0, 0)))
    made, problems = draw_scan(paths, tmp_path)
    assert (set(made), problems) == (set(OF_PREPARATION), [])
    whole = drawn[0]["figure_affine"].read_bytes()
    assert made["figure_affine"].read_bytes() == whole, "as the whole transform's affine"
    rest, _ = draw_scan({**paths, "forward": written["forward"]}, tmp_path, OF_REGISTRATION)
    assert set(rest) == {"figure_full", "figure_grid", "viewer"}
    node = DrawFigures(**{name: str(paths[name]) for name in written if name != "forward"})
    with pytest.raises(ValueError, match="give affine, forward or both"):
        node.run()
    node.inputs.wanted = ["figure_masks"]
    with pytest.raises(ValueError, match="figure_masks is no picture"):
        node.run()


def test_a_noisy_scan_has_a_picture_below_the_limit_too(tmp_path, small_brain):
    noise = np.random.default_rng(0).uniform(0, 100, [4 * n for n in small_brain.shape])
    spacing = np.diag([0.25, 0.25, 0.25, 1.0])
    scan = nb.Nifti1Image(noise.astype(np.float32), small_brain.affine @ spacing)
    mosaic = Mosaic.of(nb.Nifti1Image(np.ones(scan.shape, np.uint8), scan.affine))
    path = draw_brain(tmp_path / "noise.webp", mosaic, scan, Window(0, 100))
    assert 100_000 < path.stat().st_size < 300_000
    assert pixels(path).std() > 10


def test_a_picture_that_cannot_be_drawn_costs_none_of_the_others(drawn):
    made, problems = drawn
    assert set(made) == set(FIGURES) - {"figure_jacobian"}
    (problem,) = problems
    assert problem.startswith(FIGURES["figure_jacobian"])
    assert "jacobian.nii" in problem
