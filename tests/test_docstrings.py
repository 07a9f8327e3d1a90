"""Examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import vxmprep

ROOT = Path(vxmprep.__file__).parent


def modules_with_examples() -> list[str]:
    files = [file for file in sorted(ROOT.rglob("*.py")) if ">>>" in file.read_text("utf-8")]
    names = [
        ".".join(("vxmprep", *file.relative_to(ROOT).with_suffix("").parts)) for file in files
    ]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_give_what_they_say(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
