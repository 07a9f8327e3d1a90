"""The course of a training as a picture."""

from __future__ import annotations

import numpy as np

from vxmprep.spatial.files import replacing
from vxmprep.training.folder import ModelFolder
from vxmprep.training.logs import read_table
from vxmprep.training.report import MEASURES, PARTS

POINTS = 400
"""Most points of a line; each is a mean."""


def draw_curves(folder: ModelFolder) -> None:
    """Draw the loss and its parts, and what validations measured, from the tables."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    training, validation = read_table(folder.iterations), read_table(folder.validations)
    shown = [name for name in MEASURES if np.isfinite(validation.get(name, [np.nan])).any()]
    figure = Figure(figsize=(4 * (1 + len(shown)), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + len(shown), squeeze=False)[0]
    for part in ("loss", *PARTS):
        if any(training.get(part, [])):
            axes[0].plot(*_means(training["iteration"], training[part]), label=part)
    axes[0].set(title="loss and its parts", xlabel="iteration")
    axes[0].legend(frameon=False, fontsize="small")
    for ax, name in zip(axes[1:], shown, strict=True):
        ax.plot(validation["iteration"], validation[name], marker=".")
        ax.set(title=f"validation: {MEASURES[name]}", xlabel="iteration")
        if name == "folding":
            ax.set_ylim(0, max(1e-3, 1.1 * max(validation[name])))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    with replacing(folder.curves) as temporary:
        figure.savefig(temporary, dpi=120)


def _means(iterations: list[float], values: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Average neighbours, so that at most `POINTS` are left."""
    pieces = min(len(values), POINTS)
    return tuple(
        np.array([piece.mean() for piece in np.array_split(np.asarray(line), pieces)])
        for line in (iterations, values)
    )
