"""Which scans a filter file lets pass, in the format of fMRIPrep's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from vxmprep.bids.index import DatasetError, known_entities

INDICES = ("run", "echo", "flip", "inv", "chunk")
"""Entities that are numbers: ``run-1`` and ``run-01`` are the same run to a filter."""

QUERY = re.compile(r"<?Query\.(NONE|ANY|REQUIRED|OPTIONAL)(: \d)?>?")


def read_filter_file(path: Path) -> dict:
    """Read which T1w scans a filter file lets pass, in the format of fMRIPrep's.

    Parameters
    ----------
    path : path
        JSON: ``{"t1w": {"session": "01", "acquisition": ["mprage"], "run": null}}``. ``null`` or
        ``"Query.NONE"`` asks that the scan lacks the entity, ``"*"`` or ``"Query.ANY"`` that it
        has one. Parts other than ``"t1w"`` are ignored.

    Returns
    -------
    dict
        The ``"t1w"`` part: per entity a label or number, None (absent), ``*`` (any) or a list of
        these.

    Raises
    ------
    DatasetError
        If the file is not such a file.
    """
    where = f"--bids-filter-file {path}"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DatasetError(f"{where}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{where}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DatasetError(f"{where}: not JSON ({error})") from error
    wanted = content.get("t1w") if isinstance(content, dict) else None
    if not isinstance(wanted, dict):
        raise DatasetError(f'{where}: no object "t1w" in it, such as {{"t1w": {{"run": 1}}}}')
    known = known_entities()
    for name, value in wanted.items():
        if name not in known:
            raise DatasetError(f"{where}: no entity is called {name}; known: {', '.join(known)}")
        values = value if isinstance(value, list) else [value]
        if not values or not all(_is_filter(one) for one in values):
            raise DatasetError(
                f'{where}: {name} is {json.dumps(value)}; give a label, a number, null, "*" or a '
                "list of these"
            )
    return wanted


def _is_filter(value: object) -> bool:
    if isinstance(value, str):
        return "Query" not in value or QUERY.fullmatch(value) is not None
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def passes(parsed: Mapping, filters: Mapping) -> bool:
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
