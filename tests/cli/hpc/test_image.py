"""The image, run by Apptainer as a cluster runs it: VXMPREP_IMAGE is its file."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.hpc


@pytest.fixture
def inside():
    """Run words in the image: clean environment, nothing of the machine, no network."""
    image = os.environ.get("VXMPREP_IMAGE")
    if not image:
        pytest.skip("VXMPREP_IMAGE names no image: make test-hpc IMAGE=vxmprep.sif")
    apptainer = shlex.split(os.environ.get("VXMPREP_APPTAINER", "apptainer"))

    def run(*words: str, bind: Path | None = None, isolated: str = "--containall"):
        binds = [] if bind is None else [f"--bind={bind}"]
        command = [
            "unshare", "--net", *apptainer, "exec", "--cleanenv", isolated, *binds, image, *words
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_the_demo_is_processed_without_network_and_nothing_else_is_written(inside, tmp_path):
    demo = tmp_path / "demo"
    demo.mkdir()
    done = inside("vxmprep-demo", str(demo), bind=demo)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = (next(demo.glob("*/participants_status.tsv"))).read_text().splitlines()
    assert [row.split("\t")[1] for row in rows[1:]] == ["done"] * 3
    assert not [line for line in done.stderr.splitlines() if "Warning" in line]


def test_what_is_inside_is_what_the_lock_says(inside):
    lock = Path(__file__).parents[3] / "containers" / "lock.txt"
    found = inside("cat", "/opt/vxmprep/lock.txt").stdout
    assert _versions(found) == _versions(lock.read_text())


def test_labels_tell_what_the_image_is(inside):
    labels = inside("cat", "/.singularity.d/labels.json").stdout
    assert json.loads(labels)["org.opencontainers.image.title"] == "vxmprep"


def _versions(text: str) -> dict[str, str]:
    rows = (line.split("==") for line in text.lower().replace("_", "-").splitlines())
    return {name.replace(".", "-"): version.split("+")[0] for name, version in rows}
