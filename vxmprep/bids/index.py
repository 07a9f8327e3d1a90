"""pybids' index of a dataset, made anew or kept: which T1w files it holds."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bids import BIDSLayout

SCAN = re.compile(r"sub-[^/]+(/ses-[^/]+)?/anat/[^/]+_T1w\.nii(\.gz)?")
NOT_ANATOMICAL = re.compile(r"^(?!/sub-[^/]+(/ses-[^/]+)?(/anat(/[^/]+_T1w\.nii(\.gz)?)?)?\Z)")
DATABASE = "layout_index.sqlite"


class DatasetError(ValueError):
    """A dataset that cannot be processed; the message is one line for the user."""


def t1w_files(bids_dir: Path, database_dir: Path | None) -> dict[str, dict]:
    """List the T1w files of a dataset.

    Parameters
    ----------
    bids_dir : path
        Root of the dataset.
    database_dir : path or None
        Where the index is kept: made if it is not there, else used as it is.

    Returns
    -------
    dict
        pybids' entities by the path below the dataset's root.

    Raises
    ------
    DatasetError
        If the dataset cannot be read, or the database is none of this dataset.
    """
    from bids.layout import parse_file_entities

    if database_dir is None:
        paths = _in_layout(_index(bids_dir))
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
    entities = known_entities().values()
    return {below: parse_file_entities(f"/{below}", entities=entities) for below in paths}


def _index(bids_dir: Path) -> BIDSLayout:
    """Index the anatomical files: names only, no sidecars."""
    from bids import BIDSLayout, BIDSLayoutIndexer

    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=[NOT_ANATOMICAL])
    try:
        return BIDSLayout(bids_dir, validate=False, indexer=indexer)
    except OSError as error:
        raise DatasetError(f"{bids_dir}: cannot be read ({error})") from error


def _in_layout(layout: BIDSLayout) -> list[str]:
    files = layout.get(
        scope="self", return_type="filename", suffix="T1w", extension=[".nii", ".nii.gz"]
    )
    below = [Path(file).relative_to(layout.root).as_posix() for file in files]
    return [path for path in below if SCAN.fullmatch(path)]


def known_entities() -> dict:
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
        return _in_layout(BIDSLayout(validate=False, database_path=folder))
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
    paths = _in_layout(layout)
    try:
        if paths:
            with TemporaryDirectory(prefix=".making-", dir=folder) as making:
                layout.save(making, replace_connection=False)
                (Path(making) / DATABASE).replace(folder / DATABASE)
    except (OSError, sqlite3.Error) as error:
        raise DatasetError(f"{where}: cannot be written ({error})") from error
    return paths
