"""Who trains, who validates and who is kept for the test: by participant, never by scan."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vxmprep.spatial.files import replacing
from vxmprep.training.errors import TrainingError
from vxmprep.training.packing import Entry
from vxmprep.wording import counted

PARTS = ("train", "validation", "test")

SHARE = 0.1
"""Of the participants, for validation and again for the test."""

RARE = 2
"""Labelled participants that are too few to spare any."""

LEAST_FOR_TEST = 5
"""Participants from which some are kept for the test."""


@dataclass(frozen=True)
class Split:
    """Participants of each part; ``train`` and ``validation`` are one where there is only one."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def indices(self, part: str, entries: Sequence[Entry]) -> tuple[int, ...]:
        """Places in a cohort of the scans of a part."""
        people = set(getattr(self, part))
        return tuple(i for i, entry in enumerate(entries) if entry.participant in people)

    def write(self, path: Path) -> None:
        """Write the split as JSON."""
        content = {part: list(getattr(self, part)) for part in PARTS}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def make_split(
    entries: Sequence[Entry], seed: int, *, tell: Callable[[str], None] = print
) -> Split:
    """Draw a split, in the proportions of sites, and of people with and without labels.

    A tenth of the participants validates and a tenth is kept for the test. Two to four leave none
    for the test; a single one is both trained and validated on. Where only one or two have labels,
    these train. Who is drawn depends on the seed and on the names, not on the order of the scans.

    Parameters
    ----------
    entries
        Scans of the cohort.
    seed
        Of the draw.
    tell
        Takes messages for the user.

    Returns
    -------
    Split
        Each participant is in one part, but for a single one.
    """
    strata: dict[str, Hashable] = {}
    for entry in sorted(entries, key=lambda entry: entry.name):
        site, labelled = strata.get(entry.participant, (entry.site or "", False))
        strata[entry.participant] = site, labelled or entry.labels_row is not None
    people = sorted(strata, key=lambda name: _draw(seed, name))
    if len(people) == 1:
        tell(
            f"warning: {people[0]} is the only participant, trained and validated on: the figures "
            "say nothing of other people"
        )
        return Split((people[0],), (people[0],), ())
    count = max(1, round(SHARE * len(people)))
    labelled = [name for name in people if strata[name][1]]
    rare = labelled if len(labelled) <= RARE else []
    drawn = [name for name in people if name not in rare] or people
    validation = _proportional(drawn, strata, count)
    drawn = [name for name in drawn if name not in validation]
    test = _proportional(drawn, strata, count) if len(people) >= LEAST_FOR_TEST else set()
    if not test:
        tell(f"{len(people)} participants are too few to keep any for a test")
    train = [name for name in people if name not in validation | test]
    return Split(tuple(sorted(train)), tuple(sorted(validation)), tuple(sorted(test)))


def read_split(
    path: Path, entries: Sequence[Entry], *, tell: Callable[[str], None] = print
) -> Split:
    """Read a split, and check it against the cohort.

    Parameters
    ----------
    path
        JSON with lists of participants, with or without sub-: ``train``, ``validation`` and,
        optionally, ``test``.
    entries
        Scans of the cohort. Those whose participant is in no part are not used, and counted.
    tell
        Takes messages for the user.

    Returns
    -------
    Split
        As in the file, without the participants that the cohort lacks.

    Raises
    ------
    TrainingError
        If the file is no split, has a participant in two parts, or leaves a part empty.
    """
    parts = read_parts(path)
    people = {entry.participant for entry in entries}
    named = [name for names in parts.values() for name in names]
    absent = [name for name in named if name not in people]
    if absent:
        tell(f"{path}: {_count(absent)} not in the cohort: {_few(absent)}")
    unused = sorted(people - set(named))
    if unused:
        tell(f"{path}: {_count(unused)} in no part and not used: {_few(unused)}")
    split = Split(*(tuple(sorted(set(parts[part]) & people)) for part in PARTS))
    for part in ("train", "validation"):
        if not getattr(split, part):
            raise TrainingError(f"{path}: nobody of the cohort is in {part}; name participants")
    return split


def read_parts(path: Path) -> Mapping[str, list[str]]:
    """Read the participants of each part, with or without sub-, and without regard to a cohort.

    Raises
    ------
    TrainingError
        If the file is no split, or has a participant in two parts.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{path}: {str(error.strerror).lower()}; give a JSON file") from error
    except ValueError as error:
        raise TrainingError(f"{path}: not JSON ({error}); give lists of participants") from error
    sound = isinstance(content, dict) and {"train", "validation"} <= set(content) <= set(PARTS)
    sound = sound and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names)
        for names in content.values()
    )
    if not sound:
        raise TrainingError(f"{path}: give lists of participants, {', '.join(PARTS)}")
    seen: dict[str, str] = {}
    for part in PARTS:
        for name in content.get(part, []):
            name = name.removeprefix("sub-")
            if seen.setdefault(name, part) != part:
                raise TrainingError(f"{path}: {name} is in {seen[name]} and in {part}; keep one")
    return {part: [name for name, where in seen.items() if where == part] for part in PARTS}


def _draw(seed: int, name: str) -> bytes:
    """Give a number by which to sort: the same on every machine and with every numpy."""
    return hashlib.sha256(f"{seed} {name}".encode()).digest()


def _proportional(people: Sequence[str], strata: Mapping[str, Hashable], count: int) -> set[str]:
    """Take the first of each stratum, as many as its share; largest remainders round."""
    members = defaultdict(list)
    for name in people:
        members[strata[name]].append(name)
    shares = {stratum: count * len(names) / len(people) for stratum, names in members.items()}
    wanted = {stratum: int(share) for stratum, share in shares.items()}
    by_remainder = sorted(shares, key=lambda stratum: wanted[stratum] - shares[stratum])
    for stratum in by_remainder[: count - sum(wanted.values())]:
        wanted[stratum] += 1
    return {name for stratum, names in members.items() for name in names[: wanted[stratum]]}


def _count(names: Sequence[str]) -> str:
    return counted(len(names), "participant")


def _few(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
