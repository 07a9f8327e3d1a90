"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

RUN = "VXMPREP_RUN"
"""Environment variable: the run that a process works for, as 12 hexadecimal digits. Temporary
files begin with it, so that those of a run known to be dead can be told at once."""


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path` that is renamed to it once the block succeeds.

    The temporary name keeps all suffixes, because writers choose the format by them.

    Parameters
    ----------
    path : path
        The file wanted; its folder is made.

    Yields
    ------
    Path
        Where to write.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    own = uuid.uuid4().hex
    temporary = path.with_name(f".{os.environ.get(RUN, own[:12])}{own[12:]}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_left_behind(
    folder: Path, stem: str = "", *, dead: Collection[str] = (), seconds: float = 600.0
) -> None:
    """Remove the temporary files that killed writers have left in a folder.

    Parameters
    ----------
    folder : path
        Where `replacing` wrote.
    stem : str
        How the names of the files wanted begin; by default all are meant.
    dead : collection of str
        Runs that have ended, whose files are removed whatever their age.
    seconds : float
        Age from which nobody can be writing any more.
    """
    rest = re.escape(stem) + ("[_.].*" if stem else ".+")
    pattern = re.compile(rf"\.([0-9a-f]{{12}})[0-9a-f]{{20}}\.{rest}")
    for path in folder.glob(".*"):
        found = pattern.fullmatch(path.name)
        with contextlib.suppress(FileNotFoundError):  # others may do the same
            if found and (found[1] in dead or time.time() - path.stat().st_mtime > seconds):
                path.unlink()


def there(path: str | Path) -> Path:
    """Give a file's path if the file is there.

    Raises
    ------
    ValueError
        If it is not.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; check the path")
    return path


def checksum(path: str | Path) -> str:
    """Give the SHA-256 of a file as hexadecimal text."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
