"""A small cohort of brains, made from the default atlas at 6 mm by small deformations."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
import torch
from scipy import ndimage

from vxmprep.atlas import default_files
from vxmprep.evaluation.labels import without_parcels
from vxmprep.morph.field import warp
from vxmprep.morph.labels import warp_labels
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import load
from vxmprep.spatial.resample import resample
from vxmprep.training.cohort import Scan

SIZE = 32


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Brains:
    """Files of a small atlas and of scans deformed from it, all on one grid."""

    grid: Grid
    image: Path
    mask: Path
    labels: Path
    scans: tuple[Scan, ...]

    def toml(self, folder: Path, scans=None, *, extra: str = "", **settings) -> Path:
        """Write a configuration of a training, and give its path."""
        lines = [f'folder = "{folder}"', extra, "[atlas]", 'name = "small"']
        lines += [f'{name} = "{getattr(self, name)}"' for name in ("image", "mask", "labels")]
        lines += ["[settings]", *(f"{name} = {json.dumps(v)}" for name, v in settings.items())]
        for scan in self.scans if scans is None else scans:
            lines += ["[[scans]]", f'name = "{scan.name}"', f'participant = "{scan.participant}"']
            lines += [f'image = "{scan.image}"']
            lines += [f'labels = "{scan.labels}"'] if scan.labels else []
        path = folder.with_suffix(".toml")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path


def deformed(image: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(seed).standard_normal((1, 3, *image.shape))
    field = ndimage.gaussian_filter(noise, [0, 0, 4, 4, 4])
    field = 0.8 * field / np.abs(field).max() + np.reshape([1.2, -1.2, 0.6], (3, 1, 1, 1))
    field = torch.from_numpy(field).float()
    moved = warp(torch.from_numpy(image).float()[None, None], field)[0, 0].numpy()
    kept = warp_labels(torch.from_numpy(labels.astype(np.int32))[None, None], field)[0, 0].numpy()
    return np.rint(moved).astype(np.uint8), kept.astype(np.int16)


@pytest.fixture(scope="session")
def brains(tmp_path_factory) -> Brains:
    folder = tmp_path_factory.mktemp("brains")
    source, parcels = (load(path) for path in default_files())
    cut = tuple(slice(start, start + 6 * SIZE, 6) for start in (3, 18, 0))
    data = np.asarray(source.dataobj)[cut]
    shape = (SIZE, SIZE, SIZE)
    data = np.pad(data, [(0, new - old) for new, old in zip(shape, data.shape, strict=True)])
    affine = source.affine @ np.diag([6.0, 6.0, 6.0, 1.0])
    affine[:3, 3] = nb.affines.apply_affine(source.affine, [part.start for part in cut])
    grid = Grid(shape, affine)
    image = np.rint(255 * np.clip(data / np.percentile(data[data > 0], 99.5), 0, 1))
    image = image.astype(np.uint8)
    on_grid = np.asarray(resample(parcels, grid, np.eye(4), nearest=True).dataobj)
    labels = without_parcels(np.rint(on_grid).astype(np.int16))

    def save(name: str, data: np.ndarray) -> Path:
        nb.save(nb.Nifti1Image(data, affine), folder / name)
        return folder / name

    scans = []
    for number in range(8):
        moved, kept = deformed(image, labels, number)
        stem = f"sub-{number + 1:02}"
        files = save(f"{stem}_T1w.nii.gz", moved), save(f"{stem}_dseg.nii.gz", kept)
        scans.append(Scan(stem, f"{number + 1:02}", files[0], files[1]))
    return Brains(
        grid,
        save("atlas.nii.gz", image),
        save("mask.nii.gz", (image > 0).astype(np.uint8)),
        save("labels.nii.gz", labels),
        tuple(scans),
    )


@pytest.fixture
def told() -> "Told":
    return Told()


class Told(list):
    """Collects messages for the user."""

    def __call__(self, message: str) -> None:
        self.append(message)

    @property
    def text(self) -> str:
        return "\n".join(self)


@pytest.fixture(scope="session")
def refused() -> Callable[..., str]:
    """Give the one line with which a call is refused."""

    def call(error, function, *args, **kwargs) -> str:
        with pytest.raises(error) as caught:
            function(*args, **kwargs)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return call
