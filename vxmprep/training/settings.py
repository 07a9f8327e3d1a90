"""What a training is made with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from vxmprep.training.errors import TrainingError

SMOOTHNESS = {"lncc": 1.0, "mse": 0.02}
"""The paper's lambda for each similarity."""

CHOICES = {
    "segmentations": ("scans", "atlas"),
    "image_loss": tuple(SMOOTHNESS),
    "pairs": ("atlas", "subjects"),
    "field_resolution": ("half", "full"),
    "voxel_size": (1, 2),
    "precision": ("auto", "float32", "bfloat16"),
}

LEAST = {
    "smoothness_weight": 0,
    "segmentation_weight": 0,
    "integration_steps": 0,
    "batch_size": 1,
    "iterations": 1,
    "seed": 0,
    "augmentation": 0,
    "validate_every": 1,
    "validation_pairs": 1,
    "patience": 1,
    "checkpoint_every": 1,
    "devices": 1,
    "nodes": 1,
    "threads": 0,
}

POSITIVE = ("learning_rate", "final_learning_rate", "memory_budget")

FREE = (
    "iterations",
    "device",
    "devices",
    "nodes",
    "threads",
    "precision",
    "memory_budget",
    "validate_every",
    "patience",
    "checkpoint_every",
)
"""What may change when a training goes on: where and how long it runs, not what it learns."""

NAMED = ("vxm", "x2")
"""Networks of the paper."""

LISTS = {"structures": "a list of whole numbers", "features": "'vxm', 'x2' or two lists"}
"""Settings that are lists, or may be, and what to give."""

Features = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class TrainingSettings:
    """All settings of a training.

    Attributes
    ----------
    image_loss
        ``lncc`` (1 - local NCC, window 9) or ``mse``.
    smoothness_weight
        lambda, of the gradient penalty of what the network gives; 1.0 for lncc and 0.02 for mse
        where None.
    segmentation_weight
        gamma, of 1 - soft Dice in samples that have labels; 0 trains without segmentations.
    segmentations
        ``scans``: their own, where they have some. ``atlas``: the atlas's labels, carried to every
        scan by a registration without a network; for a ``segmentation_weight`` above 0.
    structures
        Labels counted. Where empty, the paper's 30, or all there are if none of those occurs.
    pairs
        ``atlas``: scans to the atlas. ``subjects``: scans to scans of other participants.
    features
        ``vxm`` or ``x2`` of the paper, or two lists, of the encoder and the decoder.
    integration_steps
        Squarings of the velocity; 0 trains a displacement.
    field_resolution
        ``half`` or ``full``.
    voxel_size
        1 or 2 mm.
    batch_size
        Pairs an iteration, of all devices together.
    iterations
        Most iterations; a plateau ends the training before.
    learning_rate, final_learning_rate
        Of Adam, at the first and at the last iteration, geometric in between; constant where the
        latter is None.
    augmentation
        Strength of random affine maps and contrasts of the moving scan; 0 is none, 1 strong.
    seed
        Of split, samples and augmentation.
    device, precision
        As `vxmprep.morph.compute.choose_compute` takes them.
    devices, nodes
        How many to train on; ``devices`` on each node.
    threads
        Threads of the processor for each device; 0 leaves it to torch.
    memory_budget
        GiB that a training step may take on a device; None: what the device has.
    validate_every, validation_pairs
        Iterations between validations, and most pairs in each.
    patience
        Validations without improvement that end the training.
    checkpoint_every
        Iterations between checkpoints.
    """

    image_loss: str = "lncc"
    smoothness_weight: float | None = None
    segmentation_weight: float = 0.0
    segmentations: str = "scans"
    structures: tuple[int, ...] = ()
    pairs: str = "atlas"
    features: str | Features = "vxm"
    integration_steps: int = 7
    field_resolution: str = "half"
    voxel_size: int = 1
    batch_size: int = 1
    iterations: int = 150_000
    learning_rate: float = 1e-4
    final_learning_rate: float | None = None
    augmentation: float = 0.0
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    devices: int = 1
    nodes: int = 1
    threads: int = 0
    memory_budget: float | None = None
    validate_every: int = 500
    validation_pairs: int = 20
    patience: int = 20
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        for name, choices in CHOICES.items():
            _require(getattr(self, name) in choices, name, self, f"choose of {choices}")
        for name, least in LEAST.items():
            value = getattr(self, name)
            _require(value is None or least <= value < math.inf, name, self, f"at least {least}")
        for name in POSITIVE:
            value = getattr(self, name)
            _require(value is None or 0 < value < math.inf, name, self, "give more than 0")
        _require(
            self.batch_size % (self.devices * self.nodes) == 0,
            "batch_size",
            self,
            f"give a multiple of the {self.devices * self.nodes} devices",
        )
        useful = self.segmentations == "scans" or self.segmentation_weight > 0
        _require(useful, "segmentations", self, "give a segmentation weight above 0 too")
        whole = all(type(label) is int and label > 0 for label in self.structures)
        _require(whole, "structures", self, "give whole numbers above 0")
        self._check_features()

    @property
    def smoothness(self) -> float:
        """Lambda, the default resolved."""
        given = self.smoothness_weight
        return SMOOTHNESS[self.image_loss] if given is None else given

    def encoder_decoder(self) -> Features:
        """Give the features of the network."""
        from vxmprep.morph.network import DECODER, DOUBLED, ENCODER

        named = {"vxm": (ENCODER, DECODER), "x2": DOUBLED}
        return named[self.features] if isinstance(self.features, str) else self.features

    def _check_features(self) -> None:
        if isinstance(self.features, str):
            known = self.features in NAMED
            _require(known, "features", self, "give 'vxm', 'x2' or two lists")
            return
        listed = all(isinstance(features, tuple) for features in self.features)
        sensible = (
            listed
            and len(self.features) == 2
            and len(self.features[1]) >= len(self.features[0]) > 0
        )
        _require(sensible, "features", self, "give two lists, the decoder's at least as long")
        numbers = [number for features in self.features for number in features]
        sensible = all(type(number) is int and 1 <= number <= 1024 for number in numbers)
        _require(sensible, "features", self, "give whole numbers of 1 to 1024")

    def learning_rate_at(self, iteration: int) -> float:
        """Learning rate of an iteration, counted from 0."""
        if self.final_learning_rate is None:
            return self.learning_rate
        share = min(iteration / max(self.iterations - 1, 1), 1.0)
        return self.learning_rate * (self.final_learning_rate / self.learning_rate) ** share

    def as_mapping(self) -> dict[str, Any]:
        """Give the settings as JSON and TOML have them; None is left out."""
        found = {name: _listed(value) for name, value in asdict(self).items() if value is not None}
        return {**found, "smoothness_weight": self.smoothness}

    def identity(self) -> dict[str, Any]:
        """Give the settings that a training cannot go on without."""
        free = [name for name in FREE if name != "iterations" or self.final_learning_rate is None]
        if self.segmentations == "scans":  # as trainings have it that began before it was a choice
            free.append("segmentations")
        return {name: value for name, value in self.as_mapping().items() if name not in free}


def settings_from(mapping: Mapping[str, Any], where: str) -> TrainingSettings:
    """Read settings from names and values as TOML has them.

    Parameters
    ----------
    mapping
        Any of the attributes of `TrainingSettings`.
    where
        File and table, for messages.

    Returns
    -------
    TrainingSettings
        Complete settings.

    Raises
    ------
    TrainingError
        If a name is unknown or a value has the wrong type or size.
    """
    known = {item.name: item for item in fields(TrainingSettings)}
    unknown = sorted(set(mapping) - set(known))
    if unknown:
        raise TrainingError(f"{where}: unknown setting {unknown[0]!r}; known are {sorted(known)}")
    try:
        values = {name: _typed(name, known[name].type, value) for name, value in mapping.items()}
        return TrainingSettings(**values)
    except TrainingError as error:
        raise TrainingError(f"{where}: {error}") from None


def _require(holds: bool, name: str, settings: TrainingSettings, advice: str) -> None:
    if not holds:
        raise TrainingError(f"{name} is {getattr(settings, name)!r}; {advice}")


def _typed(name: str, kind: str, value: Any) -> Any:
    """Take a value as its setting's type, or refuse it."""
    if name in LISTS:
        if isinstance(value, list):
            return _tupled(value)
        if name == "structures" or not isinstance(value, str):
            raise TrainingError(f"{name} is {value!r}; give {LISTS[name]}")
    plain = {"str": str, "int": int, "float": (int, float), "float | None": (int, float)}
    wanted = plain.get(kind, str)
    if isinstance(value, bool) or not isinstance(value, wanted):
        kinds = {str: "a text", int: "a whole number"}
        raise TrainingError(f"{name} is {value!r}; give {kinds.get(wanted, 'a number')}")
    return float(value) if kind.startswith("float") else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value
