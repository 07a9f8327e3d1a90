"""The image, run by Apptainer as a cluster runs it: VXMPREP_IMAGE is its file."""

import json
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.hpc


@pytest.fixture
def inside(image):
    """Run words in the image: clean environment, nothing of the machine, no network."""
    apptainer = shlex.split(os.environ.get("VXMPREP_APPTAINER", "apptainer"))

    def run(*words: str, seen: Sequence[Path | str] = ()):
        command = ["unshare", "--net", *apptainer, "exec", "--cleanenv", "--containall"]
        command += [*(f"--bind={path}" for path in seen), image, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_the_demo_is_processed_without_network_and_nothing_else_is_written(inside, tmp_path):
    demo = tmp_path / "demo"
    demo.mkdir()
    done = inside("vxmprep-demo", str(demo), seen=[demo])
    assert done.returncode == 0, done.stdout + done.stderr
    rows = (next(demo.glob("*/participants_status.tsv"))).read_text().splitlines()
    assert [row.split("\t")[1] for row in rows[1:]] == ["done"] * 3
    assert not [line for line in done.stderr.splitlines() if "Warning" in line]


def test_it_writes_the_scripts_of_a_cohort_where_there_is_no_python(inside, image, study):
    words = [str(study.bids), str(study.out), "participant", *study.options, "--image", image]
    done = inside("vxmprep-slurm", *words, seen=[study.root, image])
    assert done.returncode == 0, done.stderr
    text = (study.out / "code" / "slurm" / "participant.sh").read_text()
    assert f"--bind='{study.bids}:{study.bids}:ro'" in text
    assert '"01 02"' in text
    assert os.access(study.out / "code" / "slurm" / "submit.sh", os.X_OK)


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
