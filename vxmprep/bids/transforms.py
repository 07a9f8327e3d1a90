"""Saved transforms: which file takes an image from one space to another, and what to call it."""

from __future__ import annotations

import re
from pathlib import Path

from vxmprep.config import UsageError

AFTER_SPACE = (
    "cohort", "split", "recording", "chunk", "atlas", "seg", "scale", "res", "den", "label",
    "from", "to", "mode", "desc",
)  # fmt: skip
"""Entities that stand behind ``space-`` in a name."""

SCAN = "T1w"

ON_SCAN = {SCAN, "individual", "native", "orig", "scanner", "ScanRAS", "fsnative"}
"""Labels of ``space-`` that say of a file that it lies where the T1w lies."""

OF_SCAN = {SCAN, "dseg", "probseg", "mask"}
"""Suffixes of what is made of a T1w, whose run it has in its name."""

OF_FREESURFER = {
    "dseg": re.compile(r"aseg.*|aparc.*|wmparc.*|ribbon"),
    "T1w": re.compile(r"T1|norm|brain|brain\.finalsurfs|brainmask|nu|orig"),
}
"""Names of FreeSurfer's volumes, by the suffix that BIDS has for what they hold."""

LABEL_NAMES = re.compile(r"dseg|mask|aseg.*|aparc.*|wmparc|labels?|ribbon")
"""Suffixes and names of label maps."""


def entities_of(path: str | Path) -> dict[str, str]:
    """Give the entities of a BIDS name.

    Examples
    --------
    >>> entities_of("sub-01_run-2_desc-brain_mask.nii.gz")
    {'sub': '01', 'run': '2', 'desc': 'brain'}
    """
    words = Path(path).name.split(".")[0].split("_")
    return dict(word.split("-", 1) for word in words if "-" in word)


def suffix_of(path: str | Path) -> str:
    """Give what stands behind the last entity of a name, or all of it where there is none.

    Examples
    --------
    >>> suffix_of("sub-01_desc-brain_mask.nii.gz"), suffix_of("aparc+aseg.mgz")
    ('mask', 'aparc+aseg')
    """
    return Path(path).name.split(".")[0].split("_")[-1]


def holds_ids(path: str | Path) -> bool:
    """Say whether a file holds by its name numbers of structures, which must not be blended.

    A mask that is blended is the share of each voxel within it.

    Examples
    --------
    >>> [holds_ids(name) for name in ("sub-01_dseg.nii.gz", "aseg.mgz", "brain_mask.nii")]
    [True, True, False]
    """
    suffix = suffix_of(path)
    return LABEL_NAMES.fullmatch(suffix) is not None and suffix != "mask"


def named_in(space: str, path: str | Path, extension: str) -> str:
    """Give the name of a file once it lies in another space.

    Parameters
    ----------
    space : str
        The label of ``space-``; what the name says of the former space and resolution is dropped.
    path : path
        The file.
    extension : str
        Of the new name.

    Examples
    --------
    >>> named_in("MNI", "sub-01_task-rest_space-T1w_desc-preproc_bold.nii.gz", ".nii.gz")
    'sub-01_task-rest_space-MNI_desc-preproc_bold.nii.gz'
    >>> named_in("MNI", "aseg.mgz", ".nii.gz")
    'aseg_space-MNI.nii.gz'
    """
    stem = Path(path).name.removesuffix(".gz")
    stem = stem[: stem.index(".", 1)] if "." in stem[1:] else stem
    words = [w for w in stem.split("_") if not w.startswith(("space-", "res-"))]
    if not words[0].startswith("sub-"):
        return "_".join([*words, f"space-{space}"]) + extension
    behind = (n for n, word in enumerate(words) if word.split("-")[0] in AFTER_SPACE)
    place = next(behind, len(words) - 1)
    return "_".join([*words[:place], f"space-{space}", *words[place:]]) + extension


def named_after(participant: str, session: str | None, path: str | Path) -> str:
    """Give the name that a file of no participant has once it lies on a participant's scan.

    Examples
    --------
    >>> named_after("01", None, "left_motor_mask.nii.gz")
    'sub-01_desc-leftmotor_mask.nii.gz'
    >>> named_after("01", "2", "tpl-MNI_res-01_atlas-X_desc-fine_dseg.nii.gz")
    'sub-01_ses-2_res-01_atlas-X_desc-fine_dseg.nii.gz'
    >>> named_after("01", None, "electrodes.tsv")
    'sub-01_electrodes.tsv'

    FreeSurfer's volumes are named as vxmprep and fMRIPrep name them:

    >>> named_after("01", None, "aparc+aseg.mgz"), named_after("01", None, "norm.mgz")
    ('sub-01_desc-aparcaseg_dseg.mgz', 'sub-01_desc-norm_T1w.mgz')
    """
    name = Path(path).name
    volume = name.lower().endswith((".mgz", ".mgh"))  # dots before these belong to the name
    stem, dot, extension = name.rpartition(".") if volume else name.partition(".")
    *words, suffix = stem.split("_")
    for better, known in OF_FREESURFER.items() if volume else ():
        if known.fullmatch("_".join([*(w for w in words if "-" not in w), suffix])):
            words, suffix = [*words, suffix], better
            break
    entities = [w for w in words if "-" in w and not w.startswith(("tpl-", "cohort-", "sub-"))]
    plain = "".join(c for w in words if "-" not in w for c in w if c.isalnum())
    if plain and "desc" not in entities_of(path):
        entities.append(f"desc-{plain}")
    whose = [f"sub-{participant}"] + ([f"ses-{session}"] if session else [])
    return "_".join([*whose, *entities, suffix]) + dot + extension


def find_transform(
    derivatives: Path,
    source: str | Path,
    *,
    to: str,
    start: str | None = None,
    participant: str | None = None,
    session: str | None = None,
) -> Path:
    """Find the file that resamples an image of a participant to another space.

    Parameters
    ----------
    derivatives : Path
        What vxmprep, or fMRIPrep, wrote: names have ``from-``, ``to-`` and ``mode-image``.
    source : path
        The image; its name tells whose it is.
    to : str
        ``T1w`` (the scan) or the label of an atlas.
    start : str, optional
        The atlas that images come from, if there are several; T1w if `to` is an atlas.
    participant, session : str, optional
        In place of those of the name. A transform of another session is only taken if it is asked
        for so.

    Raises
    ------
    UsageError
        If there is none, or more than one.
    """
    own = entities_of(source)
    who, when = participant or own.get("sub"), session or own.get("ses")
    if who is None:
        raise UsageError(
            f"{source}: its name does not say whose it is (sub-); give --participant-label"
        )
    start = start or ("*" if to == SCAN else SCAN)
    name = f"sub-{who}_*from-{start}_to-{to}_mode-image_xfm.h5"
    every = sorted((derivatives / f"sub-{who}").glob(f"**/anat/{name}"))
    every = [path for path in every if "desc" not in entities_of(path)]
    found = every
    if when is not None:
        # The T1w of another session may be no neighbour of this image: only who asks gets it. A
        # participant with one T1w for all sessions may have it without a session.
        same = [path for path in every if entities_of(path).get("ses") == when]
        shared = [path for path in every if "ses" not in entities_of(path)]
        found = same or ([] if session else shared)
    if len(found) > 1:
        if "task" in own or not (suffix_of(source) in OF_SCAN or "hemi" in own):
            own.pop("run", None)  # the run of another image is not that of its T1w
        same = [path for path in found if _agrees(entities_of(path), own)]
        found = same if len(same) == 1 else found
    if not found:
        whose = f"sub-{who}" + (f" ses-{when}" if when else "")
        if every:
            others = ", ".join(sorted({entities_of(path).get("ses", "none") for path in every}))
            raise UsageError(
                f"{source}: no transform to {to} for {whose}, but of session {others}; if the "
                "image lies on the T1w of one of these, name it with --session-label or -t"
            )
        if not (derivatives / f"sub-{who}").is_dir():
            raise UsageError(f"{derivatives}: there is no sub-{who}; check --participant-label")
        others = derivatives.glob("sub-*/**/*_to-*_xfm.h5")
        known = sorted({entities_of(path)["to"] for path in others})
        raise UsageError(
            f"{derivatives}: no transform to {to} for {whose}"
            + (f"; there are transforms to {', '.join(known)}" if known else "; is it processed?")
        )
    if len(found) > 1:
        starts = sorted({entities_of(path)["from"] for path in found})
        way = f"--from ({', '.join(starts)})" if len(starts) > 1 else "--session-label or -t"
        names = ", ".join(path.name for path in found)
        raise UsageError(f"{source}: several transforms fit ({names}); choose one with {way}")
    return found[0]


def _agrees(transform: dict[str, str], image: dict[str, str]) -> bool:
    """Tell whether a transform is of the scan that an image is named after."""
    ours = {key: value for key, value in transform.items() if key not in ("from", "to", "mode")}
    return all(image.get(key) == value for key, value in ours.items())


def opposite(path: Path) -> Path | None:
    """Name the file of the other direction: ``from-`` and ``to-`` change places.

    None if the name does not have both.

    Examples
    --------
    >>> opposite(Path("sub-01_from-T1w_to-MNI_mode-image_xfm.h5")).name
    'sub-01_from-MNI_to-T1w_mode-image_xfm.h5'
    """
    ends = entities_of(path)
    if not {"from", "to"} <= ends.keys():
        return None
    there, back = (f"from-{a}_to-{b}_" for a, b in (
        (ends["from"], ends["to"]), (ends["to"], ends["from"])
    ))  # fmt: skip
    return path.with_name(path.name.replace(there, back))


def grid_file(transform: Path) -> Path:
    """Name the image on whose grid a transform's result lies, as vxmprep writes it."""
    words = transform.name.split("_from-")[0]
    to = entities_of(transform)["to"]
    space = "" if to == SCAN else f"_space-{to}"
    return transform.with_name(f"{words}{space}_desc-preproc_T1w.nii.gz")
