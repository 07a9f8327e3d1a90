"""Templates of TemplateFlow, found without its client where they are at hand.

The client needs seconds to index its cache and tries the network for names that do not exist; the
list of what there is comes in its package.
"""

from __future__ import annotations

import importlib.util
import os
import re
import zipfile
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

STORE = "https://templateflow.s3.amazonaws.com"
PATIENCE = 5.0
"""Seconds to wait for the store's first answer."""

SWITCHED_ON = ("true", "on", "1", "yes", "y")
"""What TemplateFlow takes for yes."""

WAYS_OUT = (
    "fetch it where there is a network and point TEMPLATEFLOW_HOME at that cache, "
    "or give an image with --atlas FILE --atlas-name NAME"
)

NAME = re.compile(
    r"tpl-[^_]+(?:_cohort-(?P<cohort>\w+?))?(?:_res-0*(?P<resolution>\d+))?"
    r"(?:_desc-(?P<desc>brain))?_(?P<suffix>T1w|mask)\.nii\.gz"
)


class AtlasError(ValueError):
    """An atlas that cannot be had; the message is one line for the user."""


def find_template(atlas: str) -> tuple[str, Path, Path | None]:
    """Find a template in TemplateFlow's cache, and fetch it if it is not there.

    Parameters
    ----------
    atlas : str
        ``NAME[:cohort-N][:res-N]``; resolution 1 by default.

    Returns
    -------
    tuple
        The template's name, its T1w image, and its brain mask; None where the image is stripped.

    Raises
    ------
    AtlasError
        If there is no such template, or it can be had neither from the cache nor from the network.
    """
    template, *parts = atlas.split(":")
    asked = {}
    for part in parts:
        key, _, value = part.partition("-")
        if key not in ("cohort", "res", "resolution") or not value.isalnum():
            raise AtlasError(f"--atlas {atlas}: {part} is not cohort-N or res-N; write it so")
        asked["cohort" if key == "cohort" else "resolution"] = value.lstrip("0")
    home = cache_folder()
    listed = _listed(atlas, template, home)
    try:
        image, mask = _choose(listed, **asked)
    except LookupError as error:
        raise AtlasError(f"--atlas {atlas}: TemplateFlow {error.args[0]}") from error
    absent = [name for name in (image, mask) if name and not _is_there(home / name)]
    if absent:
        _fetch(atlas, template, home, absent)
    return template, home / image, mask and home / mask


def cache_folder() -> Path:
    """Give TemplateFlow's cache, as its client finds it."""
    if given := os.getenv("TEMPLATEFLOW_HOME"):
        return Path(given).absolute()
    try:
        from platformdirs import user_cache_dir
    except ImportError:  # templateflow before 25.1
        return Path.home() / ".cache" / "templateflow"
    return Path(user_cache_dir("templateflow"))


def _listed(atlas: str, template: str, home: Path) -> list[str]:
    """List a template's files, relative to the cache: those there, and those TemplateFlow has."""
    package = importlib.util.find_spec("templateflow")
    if package is None:
        raise AtlasError(f"--atlas {atlas}: the package templateflow is not installed; {WAYS_OUT}")
    skeleton = Path(package.submodule_search_locations[0]) / "conf" / "templateflow-skel.zip"
    with zipfile.ZipFile(skeleton) as archive:
        names = archive.namelist()
    here = home / f"tpl-{template}"
    found = {name for name in names if name.startswith(f"{here.name}/")}
    found |= {path.relative_to(home).as_posix() for path in here.rglob("*.nii.gz")}
    if not found:
        known = {name.split("/")[0].removeprefix("tpl-") for name in names}
        close = get_close_matches(template, sorted(known), n=1, cutoff=0.7)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise AtlasError(f"--atlas {atlas}: TemplateFlow has no such template{hint}; {WAYS_OUT}")
    return sorted(found)


def _choose(
    listed: list[str], cohort: str | None = None, resolution: str | None = None
) -> tuple[str, str | None]:
    """Choose image and mask among a template's files, or say what there is."""
    matches = {name: NAME.fullmatch(Path(name).name) for name in listed}
    found = {name: match.groupdict() for name, match in matches.items() if match}
    cohorts = sorted(
        {f["cohort"] for f in found.values() if f["cohort"]}, key=lambda c: (len(c), c)
    )
    if cohort is None and len(cohorts) > 1:
        raise LookupError(f"has several cohorts; add one of {', '.join(cohorts)}, as :cohort-N")
    if cohort is not None and cohort not in cohorts:
        raise LookupError(f"has no such cohort; choose of {', '.join(cohorts) or 'none'}")
    wanted = ("1", None) if resolution is None else (resolution,)
    files = {
        (f["suffix"], f["desc"]): name
        for name, f in found.items()
        if f["resolution"] in wanted and cohort in (None, f["cohort"])
    }
    if ("T1w", None) in files and ("mask", "brain") in files:
        return files["T1w", None], files["mask", "brain"]
    if ("T1w", "brain") in files:
        return files["T1w", "brain"], None
    raise LookupError(
        "has no T1w with a brain mask of that name and resolution; choose another template, or "
        "give an image with --atlas FILE --atlas-name NAME"
    )


def _is_there(path: Path) -> bool:
    """Tell whether a file was fetched; the cache holds empty placeholders."""
    return path.is_file() and path.stat().st_size > 0


def _fetch(atlas: str, template: str, home: Path, absent: list[str]) -> None:
    """Fetch files with TemplateFlow's client, once its store has been seen to answer."""
    try:
        if os.getenv("TEMPLATEFLOW_USE_DATALAD", "").lower() not in SWITCHED_ON:
            _knock(f"{STORE}/{quote(absent[0])}")
        from templateflow import api, conf

        if not all((home / name).is_symlink() or (home / name).exists() for name in absent):
            conf.update(local=True, overwrite=False, silent=True)
        for name in absent:
            entities = NAME.fullmatch(Path(name).name).groupdict()
            given = {key: value for key, value in entities.items() if value is not None}
            api.get(template, **{"desc": None, "extension": ".nii.gz", **given})
    except Exception as error:
        said = " ".join(str(getattr(error, "reason", error)).split())
        raise AtlasError(
            f"--atlas {atlas}: TemplateFlow's {Path(absent[0]).name} is not in {home}, and cannot "
            f"be fetched ({said}); {WAYS_OUT}"
        ) from error
    lacking = [name for name in absent if not _is_there(home / name)]
    if lacking:
        raise AtlasError(f"--atlas {atlas}: TemplateFlow did not give {lacking[0]}; {WAYS_OUT}")


def _knock(url: str) -> None:
    """Raise OSError quickly where there is no network."""
    with suppress(HTTPError):  # somebody answered
        urlopen(Request(url, method="HEAD"), timeout=PATIENCE).close()
