"""The training loop: iterations, checkpoints, validations, and the ways that it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from vxmprep.morph.network import VxmNet
from vxmprep.training.data import Batch, TrainingData
from vxmprep.training.errors import Diverged, Interrupted, TrainingError
from vxmprep.training.folder import ModelFolder
from vxmprep.training.loader import Prefetcher
from vxmprep.training.logs import Logs
from vxmprep.training.memory import SMALLER
from vxmprep.training.objective import Objective
from vxmprep.training.pairs import Pair, PairSampler
from vxmprep.training.report import PARTS, Reporter, as_time
from vxmprep.training.settings import TrainingSettings
from vxmprep.training.signals import StopRequest
from vxmprep.training.state import Progress, load_state, save_state
from vxmprep.training.validation import Validation, validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

IMPROVEMENT = 1e-4
"""By what share of the best score another is higher at least where it counts as higher."""

TIMED = 2
"""Iterations that are timed before the training begins, after one that is not."""


@dataclass(frozen=True)
class Task:
    """What is trained on, with what, and how.

    Attributes
    ----------
    settings
        All settings.
    data
        Images and labels.
    sampler
        Pairs by their number.
    validation
        Pairs that are measured.
    dtype
        Precision of the convolutions.
    together
        Pairs that go through the network at a time.
    initial
        Weights to start from, or None for random ones.
    """

    settings: TrainingSettings
    data: TrainingData
    sampler: PairSampler
    validation: tuple[Pair, ...]
    dtype: torch.dtype
    together: int
    initial: Mapping[str, torch.Tensor] | None = None


class Trainer:
    """Trains a network, from where its folder says that it stands.

    Parameters
    ----------
    task
        What is trained.
    folder
        Where states and tables are kept.
    fabric
        The devices, launched.
    tell
        Takes messages for the user.
    request
        Whether a signal asks to stop.
    """

    def __init__(
        self,
        task: Task,
        folder: ModelFolder,
        fabric: Fabric,
        tell: Callable[[str], None],
        request: StopRequest,
    ) -> None:
        self.task, self.folder, self.fabric = task, folder, fabric
        self.tell, self.request = tell, request
        self.settings = task.settings
        self.network = make_network(task.settings)
        if task.initial is not None:
            self.network.load_state_dict(task.initial)
        self.module = fabric.setup_module(self.network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1.0)
        self.objective = Objective(task.settings, self.network.integrate, task.dtype)
        self.progress = self._resumed() if folder.last.exists() else Progress()
        self.local = task.settings.batch_size // fabric.world_size
        self.logs: Logs | None = None

    def run(self) -> str:
        """Train until iterations or patience are used up, and say which.

        Raises
        ------
        Interrupted
            If a signal asked to stop; the state is written.
        Diverged
            If loss or gradient stopped being finite; the last state written is from before.
        """
        ended = self._ended()
        if ended:
            return ended
        first = self.progress.iteration
        if first:
            self.tell(f"going on after {first} iterations")
        reporter = Reporter(self.settings.iterations, self.tell)
        if self.fabric.is_global_zero:
            self.logs = Logs(self.folder, first)
        try:
            self._estimate()
            if first == 0:
                self._validate()
            with Prefetcher(self._read, first, self.settings.iterations) as batches:
                self._iterate(batches, reporter)
        except torch.cuda.OutOfMemoryError as error:
            raise TrainingError(f"{self.fabric.device}: memory is used up; {SMALLER}") from error
        finally:
            if self.logs:
                self.logs.close()
        share = self.progress.waited / max(self.progress.seconds, 1e-9)
        self.tell(f"waited for data {share:.1%} of the time")
        return self._ended() or "iterations"

    def _resumed(self) -> Progress:
        """Read the last state; the best one where a crash of the machine has damaged it."""
        try:
            return load_state(self.folder.last, self.network, self.optimizer)
        except TrainingError as error:
            try:
                found = load_state(self.folder.best, self.network, self.optimizer)
            except TrainingError:
                raise error from None
            # What ends the training reads the last state once more.
            if self.fabric.is_global_zero:
                save_state(self.folder.last, found, self.network, self.optimizer)
            self.tell(
                f"warning: {self.folder.last}: damaged; going on from {self.folder.best.name}"
            )
            return found

    def _iterate(self, batches: Prefetcher, reporter: Reporter) -> None:
        settings, progress = self.settings, self.progress
        begin = time.perf_counter()
        for iteration, batch in batches:
            values = self._step(iteration, batch)
            progress.iteration = iteration + 1
            now = time.perf_counter()
            seconds, begin = now - begin, now
            progress.seconds += seconds
            progress.waited += batches.waited
            if self.fabric.is_global_zero:
                reporter.step(progress.iteration, values, seconds)
                row = {**values, "seconds": seconds, "waited": batches.waited}
                self.logs.iteration(progress.iteration, row)
            last = progress.iteration == settings.iterations
            validated = last or progress.iteration % settings.validate_every == 0
            if validated:
                self._validate()
            stop = self._asked_to_stop()
            if validated or stop or progress.iteration % settings.checkpoint_every == 0:
                self._save()
            if stop:
                raise Interrupted(stop, progress.iteration)
            if self._ended():
                return
            begin = time.perf_counter() if validated else begin

    def _step(self, iteration: int, batch: Batch) -> dict[str, float]:
        """Change the weights by one batch; give the parts of the loss, of all devices."""
        rate = self.settings.learning_rate_at(iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        parts, norm = self._gradient(batch)
        if self.fabric.world_size > 1:
            parts = self.fabric.all_reduce(parts, reduce_op="mean")
        *values, norm = torch.cat([parts, norm[None]]).tolist()
        if not math.isfinite(sum(values) + norm):
            raise Diverged(self._diverged(batch, values, norm))
        self.optimizer.step()
        named = dict(zip(PARTS, values, strict=True))
        return {"loss": sum(values), **named, "gradient": norm, "learning_rate": rate}

    def _gradient(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the parts of the loss, the weights' gradients, and their norm over all."""
        self.optimizer.zero_grad(set_to_none=True)
        pieces = batch.split(self.task.together)
        total = torch.zeros(len(PARTS), device=self.fabric.device)
        for number, piece in enumerate(pieces, start=1):
            share = len(piece.numbers) / len(batch.numbers)
            # Devices exchange gradients once for all pieces.
            with self.fabric.no_backward_sync(self.module, enabled=number < len(pieces)):
                losses = self.objective(self.module, piece.to(self.fabric.device))
                self.fabric.backward(losses.total * share)
            total += share * torch.stack([getattr(losses, part).detach() for part in PARTS])
        norms = [torch.linalg.vector_norm(weight.grad) for weight in self.network.parameters()]
        return total, torch.linalg.vector_norm(torch.stack(norms))

    def _read(self, iteration: int) -> Batch:
        """Read this process's part of an iteration's batch."""
        first = iteration * self.settings.batch_size + self.fabric.global_rank * self.local
        numbers = range(first, first + self.local)
        pairs = [(number, self.task.sampler(number)) for number in numbers]
        labels = self.settings.segmentation_weight > 0
        batch = self.task.data.batch(pairs, labels=labels)
        return batch.pinned() if self.fabric.device.type == "cuda" else batch

    def _estimate(self) -> None:
        """Say how long it will take at most; weights and states stay as they are."""
        batch = self._read(self.progress.iteration)
        times = []
        for _ in range(1 + TIMED):
            begin = time.perf_counter()
            _, norm = self._gradient(batch)
            float(norm)  # waits for the device
            times.append(time.perf_counter() - begin)
        self.optimizer.zero_grad(set_to_none=True)
        each = min(times[1:])
        left = self.settings.iterations - self.progress.iteration
        self.tell(
            f"{left} iterations of {each:.2f} s: {as_time(left * each)} and the validations, "
            "less if these stop improving"
        )

    def _validate(self) -> None:
        """Measure the network, and keep it if it is the best one."""
        progress, score = self.progress, 0.0
        if self.fabric.is_global_zero:
            task = self.task
            found = validate(self.network, task.data, task.validation, task.settings, task.dtype)
            self.logs.validation(progress.iteration, found.summary())
            self.tell(self._validated(found))
            score = found.score
        if self.fabric.world_size > 1:
            score = self.fabric.broadcast(score)
        if progress.iteration == 0 or score > progress.best + IMPROVEMENT * abs(progress.best):
            progress.best, progress.best_iteration, progress.stale = score, progress.iteration, 0
            self._save(best=True)
        else:
            progress.stale += 1

    def _validated(self, found: Validation) -> str:
        values = found.summary()
        dice = "" if math.isnan(values["dice"]) else f"Dice {values['dice']:.4f}, "
        return (
            f"validation after {self.progress.iteration} iterations: {dice}NCC "
            f"{values['ncc']:.4f}, loss {values['loss']:.4f}, folding {values['folding']:.3f} %"
        )

    def _save(self, *, best: bool = False) -> None:
        if self.fabric.is_global_zero:
            if self.logs:
                self.logs.flush()
            path = self.folder.best if best else self.folder.last
            save_state(path, self.progress, self.network, self.optimizer)

    def _asked_to_stop(self) -> int:
        """Give the signal that asked any of the processes to stop, or 0."""
        if self.fabric.world_size == 1:
            return self.request.signal
        asked = torch.tensor(self.request.signal, device=self.fabric.device)
        return int(self.fabric.all_reduce(asked, reduce_op="max"))

    def _ended(self) -> str | None:
        if self.progress.iteration >= self.settings.iterations:
            return "iterations"
        return "plateau" if self.progress.stale >= self.settings.patience else None

    def _diverged(self, batch: Batch, values: list[float], norm: float) -> str:
        parts = ", ".join(f"{n} {v:g}" for n, v in zip(PARTS, values, strict=True))
        pairs = ", ".join(" to ".join(names) for names in batch.names)
        best = self.progress.best_iteration
        return (
            f"iteration {self.progress.iteration + 1}: the loss is no longer finite ({parts}, "
            f"gradient {norm:g}; {pairs}). The same command tries again from the last state "
            f"before; the best network, of iteration {best}, is the model. Lower learning_rate, "
            "or use precision = 'float32', under another name"
        )


def make_network(settings: TrainingSettings) -> VxmNet:
    """Make the network of some settings; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        encoder, decoder = settings.encoder_decoder()
        half = settings.field_resolution == "half"
        return VxmNet(encoder, decoder, steps=settings.integration_steps, half_resolution=half)
