"""Write the Boutiques descriptor of vxmprep from its argument parser.

``python containers/boutiques.py > containers/vxmprep.json``, whenever an option changes.
"""

import argparse
import json
import re
from pathlib import Path

import vxmprep
from vxmprep.cli.options import DESCRIPTION, build_parser, count, positive
from vxmprep.config import LEVELS

NOT_DESCRIBED = ("help", "version")

WRITTEN = ("output_dir", "work_dir", "bids_database_dir")
"""What need not be there before."""


def descriptor() -> dict:
    """Describe the command, https://boutiques.github.io (schema 0.5)."""
    actions = [one for one in build_parser()._actions if one.dest not in NOT_DESCRIBED]
    return {
        "name": "vxmprep",
        "description": " ".join(DESCRIPTION.split()),
        "tool-version": vxmprep.__version__,
        "schema-version": "0.5",
        # Positionals first: the lists among the options would take them for theirs.
        "command-line": "vxmprep "
        + " ".join(_key(one) for one in sorted(actions, key=lambda one: bool(one.option_strings))),
        "inputs": [_input(one) for one in actions],
        "output-files": [
            {
                "id": "results",
                "name": "Derivatives",
                "description": "BIDS derivatives of all scans, and what was made of the cohort",
                "path-template": "[OUTPUT_DIR]",
            }
        ],
        "tags": {"domain": ["neuroinformatics", "mri"]},
    }


def _input(action: argparse.Action) -> dict:
    several = action.nargs in ("+", "*")
    optional = bool(action.option_strings)
    found = {
        "id": _identity(action),
        "name": _identity(action).replace("_", " "),
        # What a machine has is no part of the description.
        "description": re.sub(r", here [\d.]+", "", action.help).replace("%%", "%"),
        "type": _type(action),
        "value-key": _key(action),
        "optional": optional,
        "list": several,
    }
    if found["type"] == "Number":
        found["integer"] = action.type in (count, positive)
    if optional:
        found["command-line-flag"] = action.option_strings[-1]
    choices = LEVELS if action.dest == "levels" else action.choices
    if choices:
        found["value-choices"] = list(choices)
    return found


def _type(action: argparse.Action) -> str:
    if action.nargs == 0:
        return "Flag"
    if action.type is Path:
        return "String" if action.dest in WRITTEN else "File"
    numeric = action.type in (count, positive) or "_number" in getattr(
        action.type, "__qualname__", ""
    )
    return "Number" if numeric else "String"


def _identity(action: argparse.Action) -> str:
    flag = action.option_strings[-1] if action.option_strings else action.dest
    return flag.lstrip("-").replace("-", "_")


def _key(action: argparse.Action) -> str:
    return f"[{_identity(action).upper()}]"


if __name__ == "__main__":
    print(json.dumps(descriptor(), indent=2))
