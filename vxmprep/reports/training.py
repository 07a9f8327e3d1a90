"""What the methods text says of the training of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vxmprep.wording import counted

SIMILARITY = {
    "lncc": "1 minus the squared local normalised cross-correlation in cubic windows of 9 voxels "
    "a side",
    "mse": "the mean squared difference of intensities",
}
PAIRS = {
    "atlas": "to register them to the atlas",
    "subjects": "to register scans of different participants to each other",
}
CARRIED = (
    " Those of the scans were the atlas's, carried to each by the instance-specific optimisation "
    "without a network, so that overlap with them in validation tells how near the network comes "
    "to that optimisation, and is no evaluation against anatomy."
)


@dataclass(frozen=True, kw_only=True)
class TrainingUsed:
    """A training.

    Attributes
    ----------
    settings
        Those of `vxmprep.training.settings.TrainingSettings`, by name.
    scans, participants, validation
        How many it was trained on, and scans of how many others validated it; 0 where that is
        not known yet.
    iteration
        The iteration whose network was kept; 0 where that is not known yet.
    initial
        Name and SHA-256 (``checksum``) of the network that it started from, or None.
    """

    settings: Mapping[str, Any]
    scans: int = 0
    participants: int = 0
    validation: int = 0
    iteration: int = 0
    initial: Mapping[str, str] | None = None

    def sentences(self) -> list[str]:
        """Give sentences with citations, to be filled in as those of the methods text are."""
        return [self._data(), self._loss(), self._optimiser()]

    def _data(self) -> str:
        who = "scans"
        if self.scans:
            who = f"{counted(self.scans, 'scan')} of {counted(self.participants, 'participant')}"
        jitter = ", with random affine maps and contrasts" if self.settings["augmentation"] else ""
        return (
            f"The network was trained with vxmprep on {who}, affinely aligned to the atlas, "
            f"{PAIRS[self.settings['pairs']]}, on images of {self.settings['voxel_size']} mm"
            f"{jitter}."
        )

    def _loss(self) -> str:
        settings = self.settings
        field = "stationary velocity" if settings["integration_steps"] else "displacement"
        gamma = settings["segmentation_weight"]
        carried = settings.get("segmentations") == "atlas"
        overlap = (
            f" and {gamma:g} times 1 minus the soft Dice overlap of segmentations"
            if carried
            else f" and, where both images of a pair had segmentations, {gamma:g} times 1 minus "
            "their soft Dice overlap"
        )
        return (
            f"The loss was {SIMILARITY[settings['image_loss']]}, plus "
            f"{settings['smoothness_weight']:g} times the mean squared gradient of the {field} "
            f"field{overlap if gamma else ''}.{CARRIED if gamma and carried else ''}"
        )

    def _optimiser(self) -> str:
        settings = self.settings
        rate = f"{settings['learning_rate']:g}"
        if "final_learning_rate" in settings:
            rate += f" falling to {settings['final_learning_rate']:g}"
        start = f"It was minimised{self._start()} by Adam [@adam] with a learning rate of {rate}"
        if not self.iteration:
            return f"{start} in at most {settings['iterations']} iterations."
        judged = f" on scans of {counted(self.validation, 'other participant')}"
        return (
            f"{start}; the network after {self.iteration} iterations was the best"
            f"{judged if self.validation else ''} and was kept."
        )

    def _start(self) -> str:
        if not self.initial:
            return ""
        name, sha256 = self.initial["name"], self.initial["checksum"]
        return f", from the weights of the network {name} (SHA-256 beginning {sha256:.12}),"
