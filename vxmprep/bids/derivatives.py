"""The output folder: what describes it as a whole, and the files of one scan."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import vxmprep
from vxmprep.bids.names import derivative_path
from vxmprep.config import UsageError
from vxmprep.evaluation.labels import table
from vxmprep.spatial.files import replacing

IGNORED = """\
*_xfm.*
*_map.nii.gz
*_map.json
*_dice.tsv
*_metrics.json
*.html
figures
assets
group_*
participants_status.tsv
models
logs
sourcedata
CITATION.md
"""

README = """\
# vxmprep derivatives

Brain MRI registered to an atlas with vxmprep {version}.

- `*_from-T1w_to-*_mode-image_xfm.h5` resamples a T1w scan onto the atlas, as
  `antsApplyTransforms -i T1w -r ATLAS -t` takes it; `*_from-*_to-T1w_mode-image_xfm.h5` resamples
  atlas images onto the scan. Points go the other way.
- `*_desc-jacobian_map` is above 1 where the scan is larger than the atlas (affine left out).
- `*_desc-registration_dice.tsv` holds the overlap of the scan's segmentation with the atlas's
  labels, structure by structure, with the affine alone and with the whole transform.
"""


def describe_dataset(output_dir: Path, bids_dir: Path) -> None:
    """Write the files that describe the output folder, where they do not say so already.

    A README and a .bidsignore that do not begin as ours do are the user's, and stay.

    Parameters
    ----------
    output_dir : path
        Root of the derivatives, made if it is not there.
    bids_dir : path
        The dataset that is processed.

    Raises
    ------
    UsageError
        If the folder holds another dataset.
    """
    path = output_dir / "dataset_description.json"
    if path.is_file() and not is_ours(output_dir):
        raise UsageError(f"{output_dir}: holds another dataset; give a folder of its own")
    description = {
        "Name": "vxmprep: brain MRI registered to an atlas",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "vxmprep", "Version": vxmprep.__version__}],
        "SourceDatasets": [{"URL": bids_dir.resolve().as_uri()}],
        "DatasetLinks": {"raw": bids_dir.resolve().as_uri()},
    }
    write_json(path, description)
    texts = {".bidsignore": IGNORED, "README": README.format(version=vxmprep.__version__)}
    for name, text in texts.items():
        there = output_dir / name
        if not there.exists() or there.read_bytes().startswith(text.encode().splitlines()[0]):
            write_text(there, text)
    rows = [f"{label.index}\t{label.name}\t{label.color}" for label in table().values()]
    write_text(output_dir / "desc-aseg_dseg.tsv", "\n".join(["index\tname\tcolor", *rows]) + "\n")


def is_ours(folder: Path) -> bool:
    """Tell whether a dataset is one that vxmprep has written."""
    makers = read_json(folder / "dataset_description.json").get("GeneratedBy")
    listed = makers if isinstance(makers, list) else []
    return any(isinstance(one, dict) and one.get("Name") == "vxmprep" for one in listed)


@dataclass(frozen=True)
class ScanWriter:
    """Writes the derivatives of one scan.

    Attributes
    ----------
    output_dir : Path
        Root of the derivatives.
    entities : tuple of (str, str)
        Entities of the scan.
    common : dict
        What the sidecar of every file says.
    """

    output_dir: Path
    entities: tuple[tuple[str, str], ...]
    common: dict

    def image(
        self, source: Path, metadata: dict, *, intensities: bool = False, **name: str
    ) -> Path:
        """Write an image compressed, under its BIDS name, with its sidecar.

        Parameters
        ----------
        source : path
            The image as computed.
        metadata : dict
            What the sidecar says beyond `common`.
        intensities : bool
            Whether 12 bits per voxel are enough, as they are for scanners.
        **name : str
            Entities that the derivative adds.
        """
        import nibabel as nb

        from vxmprep.spatial.images import save

        path = self._path(extension=".nii.gz", **name)
        save(nb.load(source), path, steps=4095 if intensities else None)
        return self._with_sidecar(path, metadata)

    def copy(self, source: Path, metadata: dict | None = None, **name: str) -> Path:
        """Write a file as it is under its BIDS name, with a sidecar if there is metadata."""
        path = self._path(**name)
        with replacing(path) as temporary:
            shutil.copyfile(source, temporary)
        return path if metadata is None else self._with_sidecar(path, metadata)

    def _path(self, **name: str) -> Path:
        return derivative_path(self.output_dir, self.entities, **name)

    def _with_sidecar(self, path: Path, metadata: dict) -> Path:
        write_json(sidecar_of(path), {**metadata, **self.common})
        return path


def sidecar_of(path: Path) -> Path:
    """Name the sidecar of a derivative."""
    stem = path.name.removesuffix(".gz")
    return path.with_name(stem.removesuffix(Path(stem).suffix) + ".json")


def source_uri(path: Path, bids_dir: Path) -> str:
    """Name an input in a sidecar: a BIDS URI inside the dataset, else the file's name."""
    relative = os.path.relpath(path, bids_dir)
    return path.name if relative.startswith("..") else f"bids:raw:{Path(relative).as_posix()}"


def read_json(path: Path) -> dict:
    """Read the object of a JSON file; empty where there is no file, or no object in it."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_rows(path: Path, columns: Collection[str], rows: Iterable[Mapping[str, str]]) -> None:
    """Write rows as tab-separated text below the names of the columns."""
    lines = ["\t".join(columns), *("\t".join(row[name] for name in columns) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")


def write_json(path: Path, content: dict) -> None:
    """Write JSON to a temporary name and rename it."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text to a temporary name and rename it, unless the file holds it already."""
    if path.is_file() and path.read_bytes() == text.encode():
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
