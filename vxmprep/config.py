"""The settings of a run."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

from vxmprep.training.settings import TrainingSettings

DEFAULT_ATLAS = "MNI152NLin2009cAsym"

COARSE_ITERATIONS = 100
"""Iterations of a refinement from zero whose field has 4 and 2 mm; beyond them it has 1 mm."""


def default_iterations(*, network: bool) -> int:
    """Give the usual iterations of the refinement, see `vxmprep.morph.refine.schedule`.

    Examples
    --------
    >>> default_iterations(network=False), default_iterations(network=True)
    (110, 46)
    """
    return 46 if network else COARSE_ITERATIONS + 10


LEVELS = ("prepare", "train", "participant", "group")

LABEL_SETS = ("vxm30", "all", "common")
"""Structures of the group tables by name; a file of ids is another choice."""

SKULL_STRIP = ("auto", "deepbet", "freesurfer", "derivatives", "synthstrip", "bet", "none")
AFFINE = ("greedy", "ants", "flirt", "none")
PRECISION = ("auto", "float32", "bfloat16")

BUNDLED = Path(__file__).with_name("models") / "bundled.pt"
"""The network that comes along; its card lies beside it."""


def model_file(model: str | Path) -> Path:
    """Give the file of a network: the word ``bundled`` is the one that comes along.

    Examples
    --------
    >>> model_file("bundled").name, str(model_file("study/model.pt"))
    ('bundled.pt', 'study/model.pt')
    """
    return BUNDLED if str(model) == "bundled" else Path(model)


SHARED = ("device", "precision", "threads")
"""Settings of a training that are those of the run, or follow from them."""

PROGRAMS = {
    ("skull_strip", "synthstrip"): "mri_synthstrip",
    ("skull_strip", "bet"): "bet",
    ("affine", "ants"): "antsRegistration",
    ("affine", "flirt"): "flirt",
}
"""Choices that need a program of somebody else."""


class UsageError(ValueError):
    """Settings that cannot be met; the message is one line for the user."""


@dataclass(frozen=True)
class Settings:
    """What a user asks for in one run; see ``vxmprep --help`` for the meaning of each."""

    bids_dir: Path
    output_dir: Path
    levels: tuple[str, ...] = ("participant",)
    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    bids_filter_file: Path | None = None
    bids_database_dir: Path | None = None
    skip_bids_validation: bool = False
    derivatives: tuple[Path, ...] = ()
    fs_subjects_dir: Path | None = None
    work_dir: Path = Path("work")
    nprocs: int = 1
    omp_nthreads: int | None = None
    mem_mb: int | None = None
    use_plugin: Path | None = None
    stop_on_first_crash: bool = False
    resource_monitor: bool = False
    write_graph: bool = False
    boilerplate_only: bool = False
    reports_only: bool = False
    clean_workdir: bool = False
    exclude: Path | None = None
    force: bool = False
    atlas: str = DEFAULT_ATLAS
    atlas_name: str | None = None
    atlas_labels: Path | None = None
    skull_strip: str = "auto"
    n4: bool = True
    affine: str = "greedy"
    model: Path | None = None
    refine_iterations: int = default_iterations(network=False)
    device: str = "auto"
    precision: str = "auto"
    model_name: str = "cohort"
    split: Path | None = None
    initial_model: Path | None = None
    resume: bool = True
    only_prepared: bool = False
    training: TrainingSettings = field(default_factory=TrainingSettings)
    labels: str = "vxm30"
    join_hemispheres: bool = False
    compare: Path | None = None
    verbose: int = 0

    @property
    def model_option(self) -> str:
        """What ``--model`` takes for the network on any machine, as far as it can."""
        return "none" if self.model is None else _said(self.model)

    @property
    def model_folder(self) -> Path:
        """The folder of the network that ``train`` makes."""
        return self.output_dir / "models" / self.model_name

    def model_label(self, path: Path) -> str:
        """Name a network's file as results do: by its place in the output, or its name alone."""
        models = self.output_dir / "models"
        return str(path.relative_to(models.parent)) if models in path.parents else path.name

    def threads(self, scans: int) -> int:
        """Give the threads per scan: the processors shared out when there are few scans.

        By the scans asked for, not by those still to do: a run that goes on from an interrupted
        one uses as many threads, because the last bits of a result depend on them.
        """
        if self.omp_nthreads is not None:
            return min(self.omp_nthreads, self.nprocs)
        return max(1, self.nprocs // max(1, min(scans, self.nprocs)))

    def as_options(self) -> dict:
        """Give the settings as ``--config-file`` takes them: by the names of the options.

        What has no value is left out.
        """
        options: dict = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, TrainingSettings):
                options |= _training_options(value)
                continue
            if isinstance(value, Path):
                value = _said(value)
            elif isinstance(value, tuple):
                value = [str(one) for one in value]
            if value is not None and value is not False and value != []:
                options[item.name] = value
        if "train" not in self.levels:  # which makes the network
            options["model"] = self.model_option
        if self.derivatives:  # a path may hold an equals sign
            options["derivatives"] = [f"derivatives={path}" for path in self.derivatives]
        if not options.pop("n4", False):
            options["no_n4"] = True
        if not options.pop("resume", False):
            options["no_resume"] = True
        return options


def _said(path: Path) -> str:
    """Give a path as options take it."""
    return "bundled" if path == BUNDLED else str(path)


def _training_options(settings: TrainingSettings) -> dict:
    """Give the settings of a training that are not the usual ones, by the names of the options."""
    usual = TrainingSettings()
    found = {}
    for item in fields(settings):
        value = getattr(settings, item.name)
        if item.name not in SHARED and value != getattr(usual, item.name):
            found[item.name] = list(value) if item.name == "structures" else value
    if isinstance(settings.features, tuple):
        found["features"] = ":".join(",".join(map(str, side)) for side in settings.features)
    return found
