"""The card of a model: what it was trained on and with, and how good it is."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

import vxmprep
from vxmprep.evaluation.labels import name_of
from vxmprep.spatial.files import replacing
from vxmprep.training.folder import ModelFolder
from vxmprep.training.report import MEASURES, as_time
from vxmprep.training.state import Progress
from vxmprep.training.validation import Validation

PACKAGES = ("torch", "lightning-fabric", "numpy", "nibabel")

CARRIED = (
    "Every scan's segmentation is that of the atlas, carried to it by a registration without a "
    "network. Dice here tells how near the network comes to that registration: it is no "
    "evaluation against anatomy."
)

NO_LICENCE = (
    "The licence of the scans was not given: find out what it allows before you pass the model on."
)


@dataclass(frozen=True)
class Card:
    """What a card says.

    Attributes
    ----------
    name
        Of the model.
    description
        What the checkpoint itself tells: settings, atlas, data, versions.
    checksum
        SHA-256 of the checkpoint.
    ended
        What ended the training.
    progress
        How long it was trained, and its best validation.
    counts
        Participants, scans and labelled scans of each part of the split.
    left_out
        Why scans were not used, by name.
    without_labels
        Why labels that were given were not used, by name of the scan.
    structures
        Labels that Dice is over.
    licence
        Of the scans.
    measured
        Affine alone, and the model, on the parts that did not train.
    """

    name: str
    description: Mapping[str, Any]
    checksum: str
    ended: str
    progress: Progress
    counts: Mapping[str, Mapping[str, int]]
    left_out: Mapping[str, str]
    without_labels: Mapping[str, str]
    structures: tuple[int, ...]
    licence: str | None
    measured: Mapping[str, tuple[Validation, Validation]]


def versions() -> dict[str, str]:
    """Give the versions of what a model is trained with."""
    found = {"vxmprep": vxmprep.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def write_card(folder: ModelFolder, card: Card) -> None:
    """Write a card as Markdown, and as JSON with the results of each pair."""
    content = {
        "name": card.name,
        "checksum": card.checksum,
        **card.description,
        "ended": card.ended,
        "progress": asdict(card.progress),
        "split": card.counts,
        "left_out": dict(card.left_out),
        "without_labels": dict(card.without_labels),
        "licence_of_the_scans": card.licence,
        "measured": {
            part: {"affine": asdict(before)["pairs"], "model": asdict(after)["pairs"]}
            for part, (before, after) in card.measured.items()
        },
    }
    with replacing(folder.card_data) as temporary:
        text = json.dumps(_finite(content), indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    with replacing(folder.card) as temporary:
        temporary.write_text(_markdown(card), encoding="utf-8")


def card_of(folder: ModelFolder) -> dict | None:
    """Read what was written as JSON, or None where there is no card."""
    try:
        return json.loads(folder.card_data.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _finite(value: Any) -> Any:
    """Put None where JSON has no number."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _markdown(card: Card) -> str:
    progress, atlas = card.progress, card.description["atlas"]
    sections = [
        f"# {card.name}",
        "A VoxelMorph network that registers T1-weighted brains, affinely aligned to the atlas "
        f"{atlas['name']}, trained with vxmprep. Use it with `--model`.",
        _start(card),
        f"Trained for {progress.iteration} iterations in {as_time(progress.seconds)}; ended by "
        f"{card.ended}. The network is that of iteration {card.description['iteration']}, the "
        f"best on the validation's pairs. SHA-256 of `model.pt`: `{card.checksum}`.",
        "## Data",
        _table(
            ["part", *next(iter(card.counts.values()))],
            [[part, *counts.values()] for part, counts in card.counts.items()],
        ),
        _reasons(f"Scans that were left out: {len(card.left_out)}.", card.left_out),
        card.without_labels
        and _reasons(
            f"Scans that were used without the labels given: {len(card.without_labels)}.",
            card.without_labels,
        ),
        f"Licence of the scans: {card.licence}" if card.licence else NO_LICENCE,
        "## Results",
        *_results(card),
        "![Curves of the training](curves.png)",
        "## Settings",
        _table(["setting", "value"], [[n, v] for n, v in card.description["training"].items()]),
        "## Versions",
        _table(["package", "version"], [[n, v] for n, v in card.description["versions"].items()]),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _start(card: Card) -> str:
    initial = card.description.get("initial_model")
    if not initial:
        return ""
    return (
        f"The training started from the weights of the network {initial['name']} (SHA-256 of its "
        f"file: `{initial['checksum']}`): what it was trained on, and the licence of that, count "
        "here too."
    )


def _reasons(head: str, reasons: Mapping[str, str]) -> str:
    return head + "".join(f"\n- {name}: {reason}" for name, reason in reasons.items())


def _results(card: Card) -> list[str]:
    """Tables of the means over pairs, and of the structures."""
    rows = [
        [part, name, _spread(before, measure), _spread(after, measure)]
        for part, (before, after) in card.measured.items()
        for measure, name in MEASURES.items()
        if _values(after, measure)
    ]
    found = [
        "Means over scans and their standard deviation, on the training's grid; the affine column "
        "is the alignment that the network is given.",
        _table(["part", "measure", "affine", "model"], rows),
    ]
    if card.description["training"]["segmentations"] == "atlas":
        found.insert(1, CARRIED)
    # The part that the network had the least to do with.
    for part, sides in list(card.measured.items())[-1:]:
        structures = [
            [label, name_of(label), *(_of_structure(side, label) for side in sides)]
            for label in card.structures
            if _of_structure(sides[1], label) != "n/a"
        ]
        if structures:
            found += [
                f"Dice of each structure, {part}:",
                _table(["label", "structure", "affine", "model"], structures),
            ]
    return found


def _values(found: Validation, measure: str) -> list[float]:
    if measure == "dice":
        return [float(np.mean(list(pair.dice.values()))) for pair in found.pairs if pair.dice]
    return [getattr(pair, measure) for pair in found.pairs]


def _spread(found: Validation, measure: str) -> str:
    values = _values(found, measure)
    deviation = f" ({np.std(values, ddof=1):.4f})" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{deviation}"


def _of_structure(found: Validation, label: int) -> str:
    values = [pair.dice[label] for pair in found.pairs if label in pair.dice]
    return f"{np.mean(values):.4f}" if values else "n/a"


def _table(head: list[str], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
