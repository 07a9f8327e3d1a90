"""A trained network and what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vxmprep.morph.frame import Frame
from vxmprep.morph.network import VxmNet


class CheckpointError(ValueError):
    """A file that is no usable network; the message is one line for the user."""


@dataclass(frozen=True)
class Model:
    """A network, the images it wants, and where it comes from.

    Attributes
    ----------
    network
        The network, set to evaluate.
    frame
        How it wants its images.
    description
        What else is known: numbers, texts, lists and mappings of them. Networks trained here have
        ``training`` (settings), ``initial_model`` (name and checksum, where they started from
        one), ``atlas`` (name and checksum, where there is one), ``data`` (fingerprint of the
        cohort) and ``versions``; those of other programs have ``origin``.
    """

    network: VxmNet
    frame: Frame = field(default_factory=Frame)
    description: Mapping[str, Any] = field(default_factory=dict)
