"""A training from its configuration to its model."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from vxmprep.morph.checkpoint import save_checkpoint
from vxmprep.morph.compute import Compute, choose_compute
from vxmprep.morph.frame import Frame
from vxmprep.morph.model import Model
from vxmprep.spatial.files import checksum
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import load, save
from vxmprep.training.card import Card, card_of, versions, write_card
from vxmprep.training.carrying import Carrier
from vxmprep.training.cohort import open_cohort
from vxmprep.training.config import Config, write_config
from vxmprep.training.curves import draw_curves
from vxmprep.training.data import Atlas, TrainingData, read_atlas
from vxmprep.training.devices import make_fabric, set_threads, zero_first
from vxmprep.training.errors import Diverged, TrainingError
from vxmprep.training.folder import ModelFolder
from vxmprep.training.initial import find_initial
from vxmprep.training.loop import Task, Trainer, make_network
from vxmprep.training.memory import fit
from vxmprep.training.pairs import PairSampler, validation_pairs
from vxmprep.training.signals import stop_requests
from vxmprep.training.split import PARTS, make_split, read_parts, read_split
from vxmprep.training.state import Progress, load_state
from vxmprep.training.validation import Validation, validate
from vxmprep.training.volumes import read_grid

Tell = Callable[[str], None]


def run(config: Config, tell: Tell = print) -> Path:
    """Train what a configuration says, or go on with it, and write the model and its card.

    Parameters
    ----------
    config
        What to train.
    tell
        Takes messages for the user.

    Returns
    -------
    Path
        The model's file, for `vxmprep.morph.checkpoint.load_checkpoint`.

    Raises
    ------
    TrainingError, ImageError
        If input or settings cannot be used.
    Interrupted
        If a signal asked to stop; the same call goes on.
    Diverged
        If the loss is no longer finite; the best network until then has been made the model.
    """
    settings = config.settings
    set_threads(settings.threads)
    try:
        compute = choose_compute(settings.device, settings.precision)
    except ValueError as error:
        raise TrainingError(str(error).removeprefix("choose_compute: ")) from error
    fabric = make_fabric(settings, compute.device)
    fabric.launch()
    tell = tell if fabric.is_global_zero else lambda _: None
    folder = ModelFolder(config.folder)
    with contextlib.ExitStack() as stack:

        def begin() -> _Job:
            if not fabric.is_global_zero:
                return _Job(config, folder, tell, fabric.device)
            stack.enter_context(folder.locked(tell))
            job = _Job(config, folder, tell, fabric.device)
            job.claim()
            return job

        job = zero_first(fabric, begin)
        tell(compute.reason)
        task = job.task(compute, settings.batch_size // fabric.world_size)
        with stop_requests() as request:
            trainer = Trainer(task, folder, fabric, tell, request)
            try:
                ended = trainer.run()
            except Diverged as error:
                ended = f"divergence: {error}"
        if fabric.is_global_zero and not job.finished(trainer.progress):
            job.finish(ended, task.dtype, fabric.device)
        if ended.startswith("divergence"):
            raise Diverged(ended)
    return folder.model


class _Job:
    """What a configuration names, read and checked."""

    def __init__(
        self, config: Config, folder: ModelFolder, tell: Tell, device: torch.device
    ) -> None:
        self.config, self.folder, self.tell = config, folder, tell
        settings = config.settings
        grid = read_grid(config.atlas.image)
        self.atlas = read_atlas(config.atlas, grid, settings.voxel_size)
        given = config.initial_model
        self.initial = None if given is None else find_initial(given, settings, folder)
        # Before what is packed there is replaced.
        folder.refuse_other(self._known(), resume=config.resume)
        if config.split is not None:
            read_parts(config.split)
        self.cohort = open_cohort(
            config.scans,
            grid,
            config.cohort,
            voxel_size=settings.voxel_size,
            carrier=self._carrier(grid, device) if settings.segmentations == "atlas" else None,
            tell=tell,
        )
        self.data = TrainingData(self.cohort, self.atlas, settings)
        entries = self.cohort.entries
        if config.split is None:
            self.split = make_split(entries, settings.seed, tell=tell)
        else:
            self.split = read_split(config.split, entries, tell=tell)
        self.indices = {part: self.split.indices(part, entries) for part in PARTS}
        tell(
            "split: "
            + ", ".join(
                f"{part} {len(getattr(self.split, part))} participants, {len(found)} scans"
                for part, found in self.indices.items()
            )
        )
        train = self.indices["train"]
        self.sampler = PairSampler(entries, train, settings.pairs, settings.seed)
        if settings.segmentation_weight:
            self._tell_labels()

    def claim(self) -> None:
        """Make the folder this training's own."""
        self.folder.claim(self._identity(), resume=self.config.resume)
        self.split.write(self.folder.split)
        self._keep_config()

    def task(self, compute: Compute, pairs: int) -> Task:
        """Give what the loop needs, with so many pairs of each batch on a device."""
        settings = self.config.settings
        validation = self._pairs("validation", settings.validation_pairs)
        found = fit(make_network(settings), settings, self.cohort.shape, compute, pairs)
        self.tell(found.reason)
        return Task(
            settings,
            self.data,
            self.sampler,
            tuple(validation),
            found.dtype,
            found.together,
            None if self.initial is None else self.initial.weights,
        )

    def finished(self, progress: Progress) -> bool:
        """Tell whether the model is that of a training that has come so far."""
        card = card_of(self.folder)
        done = (
            card
            and card["progress"]["iteration"] == progress.iteration
            and self.folder.model.is_file()
            and checksum(self.folder.model) == card["checksum"]
        )
        if done:
            self.tell(f"already trained: {self.folder.model}")
        return bool(done)

    def finish(self, ended: str, dtype: torch.dtype, device: torch.device) -> None:
        """Make the best network the model, measure it on all who did not train, write its card."""
        settings = self.config.settings
        network = make_network(settings)
        best = load_state(self.folder.best, network)
        newest = self.folder.last if self.folder.last.exists() else self.folder.best
        last = load_state(newest, make_network(settings))
        network = network.to(device).eval()
        measured = {}
        for part in PARTS[1:]:
            pairs = self._pairs(part)
            if pairs:
                self.tell(f"measuring {len(pairs)} pairs of the {part}")
                found = (
                    validate(network_or_none, self.data, pairs, settings, dtype)
                    for network_or_none in (None, network)
                )
                measured[part] = tuple(found)
        model = Model(network, Frame(spacing=settings.voxel_size), self._description(best))
        save_checkpoint(model, self.folder.model)
        if not best.iteration:
            start = "affine alignment alone" if self.initial is None else "initial model"
            self.tell(f"warning: no validation was better than the {start}")
        draw_curves(self.folder)
        write_card(self.folder, self._card(ended, best, last, measured))
        self.tell(f"model: {self.folder.model}, of iteration {best.iteration}, ended by {ended}")

    def _carrier(self, grid: Grid, device: torch.device) -> Carrier:
        """Give what carries the atlas's labels to the scans, at 1 mm."""
        atlas = read_atlas(self.config.atlas, grid, 1)
        if atlas.labels is None:
            raise TrainingError(
                "segmentations is 'atlas', but the atlas has no labels; give them, or "
                "segmentations = 'scans'"
            )
        kept = self.config.cohort / "segmentations"
        return Carrier(atlas, kept, device)

    def _pairs(self, part: str, most: int | None = None) -> list:
        entries, settings = self.cohort.entries, self.config.settings
        return validation_pairs(entries, self.indices[part], settings.pairs, most)

    def _tell_labels(self) -> None:
        carried = self.config.settings.segmentations == "atlas"
        whose = ", the atlas's, carried to them by registration" if carried else ""
        labelled, count = self.data.require_labels(self.sampler), len(self.sampler.indices)
        self.tell(
            f"segmentations: {labelled} of {count} training scans have labels{whose}; "
            f"{len(self.data.structures)} structures"
        )

    def _keep_config(self) -> None:
        """Keep what goes on with this training in its folder, with the atlas, which is small."""
        kept = {
            name: self.folder.path / f"atlas_{name}.nii.gz"
            for name, path in vars(self.config.atlas).items()
            if isinstance(path, Path)
        }
        for name, path in kept.items():
            source = getattr(self.config.atlas, name)
            if source.resolve() != path.resolve():
                save(load(source), path)
        config = replace(
            self.config,
            atlas=replace(self.config.atlas, **kept),
            split=self.config.split and self.folder.split,
            resume=True,
        )
        write_config(config, self.folder.config)

    def _known(self) -> dict:
        """Give the part of the identity that is known before the cohort is packed."""
        return {
            **self.config.settings.identity(),
            "atlas": fingerprint(self.atlas),
            "initial_model": self.initial and self.initial.checksum,
        }

    def _identity(self) -> dict:
        return {
            **self._known(),
            "cohort": self.cohort.fingerprint,
            "split": _digest(repr(self.split).encode()),
        }

    def _description(self, best: Progress) -> dict:
        start = {} if self.initial is None else {"initial_model": self.initial.described()}
        return {
            "training": self.config.settings.as_mapping(),
            **start,
            "atlas": {"name": self.atlas.name, "checksum": fingerprint(self.atlas)},
            "data": self.cohort.fingerprint,
            "split": self._counts(),
            "iteration": best.iteration,
            "versions": versions(),
        }

    def _card(
        self,
        ended: str,
        best: Progress,
        last: Progress,
        measured: dict[str, tuple[Validation, Validation]],
    ) -> Card:
        return Card(
            name=self.folder.path.name,
            description=self._description(best),
            checksum=checksum(self.folder.model),
            ended=ended,
            progress=last,
            counts=self._counts(),
            left_out={**self.config.left_out, **self.cohort.left_out},
            without_labels=self.cohort.without_labels,
            structures=self.data.structures,
            licence=self.config.licence,
            measured=measured,
        )

    def _counts(self) -> dict[str, dict[str, int]]:
        entries = self.cohort.entries
        return {
            part: {
                "participants": len(getattr(self.split, part)),
                "scans": len(found),
                "labelled scans": sum(entries[i].labels_row is not None for i in found),
            }
            for part, found in self.indices.items()
        }


def fingerprint(atlas: Atlas) -> str:
    """SHA-256 of the voxels of an atlas, at the voxel size of the training."""
    volumes = (atlas.image, atlas.mask, atlas.labels)
    return _digest(*(b"" if volume is None else volume.tobytes() for volume in volumes))


def _digest(*contents: bytes) -> str:
    found = hashlib.sha256()
    for content in contents:
        found.update(hashlib.sha256(content).digest())
    return found.hexdigest()
