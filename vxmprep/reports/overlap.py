"""The picture of a scan's Dice, structure by structure."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from vxmprep.spatial.files import replacing

AFFINE, FULL = "#8d99ae", "#1d6fb8"


def read_dice(path: Path) -> list[dict]:
    """Read a table of Dice: rows by the names of the columns."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def joined(rows: list[dict]) -> dict[str, tuple[float, float]]:
    """Give Dice by the affine and by all of each structure of the paper, left and right joined.

    Parameters
    ----------
    rows : list of dict
        Of a table of Dice.

    Returns
    -------
    dict
        Means of left and right by the name of the structure, best first; what has no value on
        either side is left out.
    """
    from vxmprep.evaluation.labels import VXM30, without_side

    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if int(row["label"]) in VXM30 and "n/a" not in (row["dice"], row["dice_affine"]):
            name = without_side(row["name"]).replace("-", " ")
            values = float(row["dice_affine"]), float(row["dice"])
            found.setdefault(name, []).append(values)
    means = {name: tuple(np.mean(values, axis=0).tolist()) for name, values in found.items()}
    return dict(sorted(means.items(), key=lambda item: -item[1][1]))


def draw_dice(path: Path, rows: list[dict]) -> Path:
    """Draw Dice of every structure, affine beside full.

    Parameters
    ----------
    path : path
        Picture to write.
    rows : list of dict
        Of a table of Dice.

    Raises
    ------
    ValueError
        If no structure has a value.
    """
    from matplotlib.figure import Figure

    values = joined(rows)
    if not values:
        raise ValueError("no structure lies in both segmentations")
    names = list(values)
    before, after = np.array(list(values.values())).T
    figure = Figure(figsize=(9, 0.27 * len(names) + 1.1), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    y = np.arange(len(names))
    axes.hlines(y, before, after, color="#ced4da", linewidth=3, zorder=1)
    axes.scatter(before, y, s=42, facecolor="white", edgecolor=AFFINE, linewidth=1.8, zorder=2)
    axes.scatter(after, y, s=46, color=FULL, zorder=3)
    for row, value in zip(y, after, strict=True):
        axes.text(1.03, row, f"{value:.2f}", va="center", ha="left", fontsize=9, color=FULL)
        axes.text(
            1.10, row, f"{before[row]:.2f}", va="center", ha="left", fontsize=9, color="#667"
        )
    axes.text(1.03, -1, "full", va="center", fontsize=9, color=FULL, fontweight="bold")
    axes.text(1.10, -1, "affine", va="center", fontsize=9, color="#667", fontweight="bold")
    axes.set_yticks(y, names)
    axes.set_ylim(len(names) - 0.5, -1.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("Dice with the atlas's labels")
    axes.grid(axis="x", color="#e9ecef")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="webp", pil_kwargs={"quality": 90, "method": 4})
    return path
