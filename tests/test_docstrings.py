"""Examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import vxmprep

ROOT = Path(vxmprep.__file__).parent


def modules_with_examples() -> list[str]:
    # The workflows are behind a link, which rglob does not follow.
    files = sorted([*ROOT.rglob("*.py"), *(ROOT / "workflows").glob("*.py")])
    files = [file for file in dict.fromkeys(files) if ">>>" in file.read_text("utf-8")]
    names = [
        ".".join(("vxmprep", *file.relative_to(ROOT).with_suffix("").parts)) for file in files
    ]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_give_what_they_say(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
