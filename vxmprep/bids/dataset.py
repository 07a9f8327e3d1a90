"""Which scans a BIDS dataset holds."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bids import BIDSLayout

ENTITIES = (
    "subject",
    "session",
    "task",
    "acquisition",
    "ceagent",
    "reconstruction",
    "run",
    "echo",
    "flip",
    "inv",
    "part",
    "chunk",
)
"""Entities of a scan that its derivatives keep, in BIDS's order."""

INDICES = ("run", "echo", "flip", "inv", "chunk")
"""Entities that are numbers: ``run-1`` and ``run-01`` are the same run to a filter."""

MAGNITUDE = (None, "mag")
"""Values of ``part`` that are an image to register; phase, real and imaginary parts are not."""

SCAN = re.compile(r"sub-[^/]+(/ses-[^/]+)?/anat/[^/]+_T1w\.nii(\.gz)?")
NOT_ANATOMICAL = re.compile(r"^(?!/sub-[^/]+(/ses-[^/]+)?(/anat(/[^/]+_T1w\.nii(\.gz)?)?)?\Z)")
FOLDERS = re.compile(r"sub-[a-zA-Z0-9+]+(_ses-[a-zA-Z0-9+]+)?")
QUERY = re.compile(r"<?Query\.(NONE|ANY|REQUIRED|OPTIONAL)(: \d)?>?")
DATABASE = "layout_index.sqlite"


class DatasetError(ValueError):
    """A dataset that cannot be processed; the message is one line for the user."""


class Filters(dict):
    """What a filter file asks of a T1w scan: values by the names of entities.

    Parameters
    ----------
    wanted : mapping
        Per entity a label or number, None (absent), ``*`` (any) or a list of these.
    source : path
        The file, named in errors.
    """

    def __init__(self, wanted: Mapping, source: Path) -> None:
        super().__init__(wanted)
        self.source = source


@dataclass(frozen=True)
class Scan:
    """One T1w scan.

    Attributes
    ----------
    path : Path
        The image; a link to content that is not fetched is a scan too.
    entities : tuple of (str, str)
        Its BIDS entities, pybids' names, in BIDS's order.
    """

    path: Path
    entities: tuple[tuple[str, str], ...]

    @property
    def stem(self) -> str:
        """The file's name without suffix and extension, for example ``sub-01_ses-1_run-2``."""
        return re.sub(r"_T1w\.nii(\.gz)?$", "", self.path.name)

    @property
    def participant(self) -> str:
        """The participant's label, without ``sub-``."""
        return dict(self.entities)["subject"]

    @property
    def session(self) -> str | None:
        """The session's label, without ``ses-``, if it has one."""
        return dict(self.entities).get("session")


def find_scans(
    bids_dir: Path,
    *,
    filters: Mapping | None = None,
    database_dir: Path | None = None,
) -> list[Scan]:
    """Find all T1w scans of a BIDS dataset with pybids.

    Parameters
    ----------
    bids_dir : path
        Root of the dataset.
    filters : mapping, optional
        Values by the names of entities, as `read_filter_file` gives them; all scans if None.
    database_dir : path, optional
        Folder of pybids' database of the dataset: made if it is not there (it lists T1w scans
        only), else read instead of the dataset. It does not notice changes of the dataset.

    Returns
    -------
    list of Scan
        In order of their names. Phase, real and imaginary parts are left out.

    Raises
    ------
    DatasetError
        If the folder is no BIDS dataset, no scan is left, names are ambiguous, or the database
        is of no use.
    """
    _check_root(bids_dir)
    listed = _listed(bids_dir, database_dir)
    found = {below: parsed for below, parsed in listed.items() if parsed.get("part") in MAGNITUDE}
    if not found and database_dir is not None and (database_dir / DATABASE).is_file():
        raise DatasetError(
            f"--bids-database-dir {database_dir}: lists no T1w scan of {bids_dir}; remove it, so "
            "that it is made anew"
        )
    if not found:
        raise DatasetError(
            f"{bids_dir}: no T1w scan found (sub-*/[ses-*/]anat/*_T1w.nii.gz); check the folder"
        )
    kept = {below: parsed for below, parsed in found.items() if _passes(parsed, filters or {})}
    if not kept:
        raise DatasetError(
            f"--bids-filter-file {getattr(filters, 'source', '')}: none of the {len(found)} T1w "
            f"scans of {bids_dir} passes; check {json.dumps(filters, ensure_ascii=False)}"
        )
    root = bids_dir.absolute()
    scans = [Scan(root / below, _entities(parsed)) for below, parsed in kept.items()]
    _refuse_misnamed(scans, root)
    _refuse_twins(scans)
    return sorted(scans, key=lambda scan: scan.stem)


def choose_scans(
    scans: Sequence[Scan],
    *,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    bids_dir: Path,
) -> list[Scan]:
    """Keep the scans of some participants and sessions.

    Parameters
    ----------
    scans : sequence of Scan
        As `find_scans` gives them.
    participants, sessions : sequence of str
        Labels to keep, with or without ``sub-`` and ``ses-``; all if empty.
    bids_dir : path
        The dataset, named in errors.

    Returns
    -------
    list of Scan
        In the order of `scans`.

    Raises
    ------
    DatasetError
        If no scan has one of the labels, or nothing is left.
    """
    people = _known(participants, "sub-", {scan.participant for scan in scans}, bids_dir)
    visits = _known(sessions, "ses-", {scan.session for scan in scans}, bids_dir)
    chosen = [scan for scan in scans if scan.participant in people and scan.session in visits]
    if scans and not chosen:
        who, when = (
            ", ".join(f"{prefix}{label}" for label in sorted(labels))
            for prefix, labels in (("sub-", people), ("ses-", visits))
        )
        raise DatasetError(
            f"{bids_dir}: no T1w scan of {who} in {when}; check --participant-label and "
            "--session-label"
        )
    return chosen


def read_filter_file(path: Path) -> Filters:
    """Read which T1w scans a filter file lets pass, in the format of fMRIPrep's.

    Parameters
    ----------
    path : path
        JSON: ``{"t1w": {"session": "01", "acquisition": ["mprage"], "run": null}}``. ``null`` or
        ``"Query.NONE"`` asks that the scan lacks the entity, ``"*"`` or ``"Query.ANY"`` that it
        has one. Parts other than ``"t1w"`` are ignored.

    Returns
    -------
    Filters
        The ``"t1w"`` part, for `find_scans`.

    Raises
    ------
    DatasetError
        If the file is not such a file.
    """
    where = f"--bids-filter-file {path}"
    try:
        content = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise DatasetError(f"{where}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{where}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DatasetError(f"{where}: not JSON ({error})") from error
    wanted = content.get("t1w") if isinstance(content, dict) else None
    if not isinstance(wanted, dict):
        raise DatasetError(f'{where}: no object "t1w" in it, such as {{"t1w": {{"run": 1}}}}')
    known = _pybids_entities()
    for name, value in wanted.items():
        if name not in known:
            raise DatasetError(f"{where}: no entity is called {name}; known: {', '.join(known)}")
        values = value if isinstance(value, list) else [value]
        if not values or not all(_is_filter(one) for one in values):
            raise DatasetError(
                f'{where}: {name} is {json.dumps(value)}; give a label, a number, null, "*" or a '
                "list of these"
            )
    return Filters(wanted, Path(path))


def _is_filter(value: object) -> bool:
    if isinstance(value, str):
        return "Query" not in value or QUERY.fullmatch(value) is not None
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _passes(parsed: Mapping, filters: Mapping) -> bool:
    """Whether entities are as filters want them, which pybids' `get` would decide alike."""
    return all(
        any(
            _matches(name, parsed.get(name), one)
            for one in (wanted if isinstance(wanted, list | tuple) else [wanted])
        )
        for name, wanted in filters.items()
    )


def _matches(name: str, value: object, wanted: str | int | None) -> bool:
    query = QUERY.fullmatch(str(wanted))
    kind = query.group(1) if query else {None: "NONE", "*": "ANY"}.get(wanted)
    if kind == "OPTIONAL":
        return True
    if kind == "NONE" or value is None:
        return kind == "NONE" and value is None
    return kind is not None or _comparable(name, value) == _comparable(name, wanted)


def _comparable(name: str, value: object) -> str | int:
    text = str(value)
    if name == "extension":
        return text.lstrip(".")
    return int(text) if name in INDICES and text.isdecimal() else text


def _check_root(bids_dir: Path) -> None:
    try:
        there, described = bids_dir.is_dir(), (bids_dir / "dataset_description.json").is_file()
    except OSError as error:
        raise DatasetError(f"{bids_dir}: cannot be read ({error.strerror})") from error
    if not there:
        raise DatasetError(f"{bids_dir}: no such folder; give the root of a BIDS dataset")
    if not described:
        raise DatasetError(
            f"{bids_dir}: not a BIDS dataset, dataset_description.json is missing; "
            "give the folder that holds it"
        )


def _listed(bids_dir: Path, database_dir: Path | None) -> dict[str, dict]:
    """List T1w files: their paths below the dataset's root, with their entities."""
    from bids.layout import parse_file_entities

    if database_dir is None:
        paths = _t1w_files(_index(bids_dir))
    elif not _pybids_can_open(database_dir.absolute() / DATABASE):
        raise DatasetError(
            f"--bids-database-dir {database_dir}: pybids cannot open this path for its special "
            "characters; give another folder"
        )
    elif (database_dir / DATABASE).is_file():
        paths = _read_database(bids_dir, database_dir)
    else:
        paths = _make_database(bids_dir, database_dir)
    # pybids' own entities come from the whole path, folders above the dataset included; only
    # what is below counts.
    entities = _pybids_entities().values()
    return {below: parse_file_entities(f"/{below}", entities=entities) for below in paths}


def _index(bids_dir: Path) -> BIDSLayout:
    """Index the anatomical files: names only, no sidecars."""
    from bids import BIDSLayout, BIDSLayoutIndexer

    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=[NOT_ANATOMICAL])
    try:
        return BIDSLayout(bids_dir, validate=False, indexer=indexer)
    except OSError as error:
        raise DatasetError(f"{bids_dir}: cannot be read ({error})") from error


def _t1w_files(layout: BIDSLayout) -> list[str]:
    files = layout.get(
        scope="self", return_type="filename", suffix="T1w", extension=[".nii", ".nii.gz"]
    )
    below = [Path(file).relative_to(layout.root).as_posix() for file in files]
    return [path for path in below if SCAN.fullmatch(path)]


def _pybids_entities() -> dict:
    """Give pybids' entities by name; loading them anew for each file would take half the time."""
    from bids.layout.models import Config

    return {**Config.load("bids").entities, **Config.load("derivatives").entities}


def _read_database(bids_dir: Path, database_dir: Path) -> list[str]:
    from bids import BIDSLayout
    from sqlalchemy.exc import SQLAlchemyError

    where = f"--bids-database-dir {database_dir}"
    folder = database_dir.absolute()
    try:
        root = _recorded_root(folder / DATABASE)
        if not _same(Path(root), bids_dir):
            raise DatasetError(f"{where}: made for another dataset, {root}; give another folder")
        return _t1w_files(BIDSLayout(validate=False, database_path=folder))
    except (sqlite3.Error, SQLAlchemyError) as error:
        reason = str(getattr(error, "orig", error))
        raise DatasetError(
            f"{where}: {DATABASE} cannot be read as a database of pybids ({reason}); remove it, "
            "so that it is made anew"
        ) from error


def _pybids_can_open(file: Path) -> bool:
    """Whether a path survives in the URL that pybids makes of it: ``?`` and ``%3F`` do not."""
    from sqlalchemy.engine import make_url

    return make_url(f"sqlite:///{file}").database == str(file)


def _recorded_root(file: Path) -> str:
    """Read which dataset a database is of, without changing it."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        row = connection.execute("SELECT root FROM layout_info").fetchone()
    if row is None:
        raise sqlite3.DatabaseError("no dataset recorded")
    return row[0]


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _make_database(bids_dir: Path, database_dir: Path) -> list[str]:
    """Index the dataset and keep the database, which appears whole or not at all."""
    where = f"--bids-database-dir {database_dir}"
    folder = database_dir.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = [file for file in folder.iterdir() if not file.name.startswith(".")]
        if others and folder / DATABASE not in others:  # another job may have made it by now
            raise DatasetError(
                f"{where}: holds other files, but no {DATABASE}; give a new or an empty folder"
            )
        if not os.access(folder, os.W_OK | os.X_OK):
            raise DatasetError(f"{where}: not writable; give another folder")
    except FileExistsError:
        raise DatasetError(f"{where}: not a folder; give a new or an empty folder") from None
    except OSError as error:
        raise DatasetError(f"{where}: cannot be made ({error.strerror})") from error
    layout = _index(bids_dir)
    paths = _t1w_files(layout)
    try:
        if paths:
            with TemporaryDirectory(prefix=".making-", dir=folder) as making:
                layout.save(making, replace_connection=False)
                (Path(making) / DATABASE).replace(folder / DATABASE)
    except (OSError, sqlite3.Error) as error:
        raise DatasetError(f"{where}: cannot be written ({error})") from error
    return paths


def _refuse_misnamed(scans: list[Scan], root: Path) -> None:
    """Refuse a scan whose name is not that of its folders: its results would be another's."""
    for scan in scans:
        folders = "_".join(scan.path.relative_to(root).parts[:-2])
        if not FOLDERS.fullmatch(folders) or not scan.path.name.startswith(f"{folders}_"):
            raise DatasetError(
                f"{scan.path}: its name must begin with its folders' labels, {folders}_, and "
                "labels have letters and digits only; rename it"
            )


def _refuse_twins(scans: list[Scan]) -> None:
    """Refuse scans whose derivatives would have the same names."""
    seen: dict[tuple, Scan] = {}
    for scan in sorted(scans, key=lambda scan: scan.path):
        twin = seen.setdefault(scan.entities, scan)
        if twin is not scan:
            raise DatasetError(
                f"{scan.path}: has the same BIDS entities as {twin.path.name}, so their results "
                "would overwrite each other; remove one of them, or choose with "
                "--bids-filter-file (is this a folder of derivatives?)"
            )


def _known(
    asked: Sequence[str], prefix: str, known: set[str | None], bids_dir: Path
) -> set[str | None]:
    labels = {label.removeprefix(prefix) for label in asked}
    for label in sorted(labels - known):
        raise DatasetError(
            f"{bids_dir}: no T1w scan of {prefix}{label}; check the label, and what "
            "--bids-filter-file or an old --bids-database-dir leaves out"
        )
    return labels or known


def _entities(parsed: Mapping) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(parsed[name])) for name in ENTITIES if name in parsed)
