"""Templates of TemplateFlow: found in its cache, and asked for only if they exist."""

import subprocess
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import pytest

import vxmprep
from vxmprep.templates import AtlasError, find_template

PACKAGE = Path(vxmprep.__file__).resolve().parents[1]
SPEC = find_spec("templateflow")
INFANT = "tpl-MNIInfant/cohort-3/tpl-MNIInfant_cohort-3_res-2"
LINEAR = "tpl-MNI152NLin6Asym/tpl-MNI152NLin6Asym_res-01"


def package() -> types.ModuleType:
    """Give TemplateFlow's package without what is in it."""
    module = types.ModuleType("templateflow")
    module.__spec__ = SPEC
    return module


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """An empty cache, a store that does not answer, and no client."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    monkeypatch.delenv("TEMPLATEFLOW_USE_DATALAD", raising=False)
    monkeypatch.setattr("vxmprep.templates.STORE", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "templateflow", package())
    return tmp_path


@pytest.fixture
def client(home, monkeypatch) -> list[tuple[str, dict]]:
    """A network, and a client that notes what it is asked for and makes the file."""
    asked = []

    def get(template, **query):
        asked.append((template, query))
        name = f"{INFANT}_{'desc-brain_mask' if query['desc'] else 'T1w'}.nii.gz"
        return put(home, name)

    module = package()
    module.api = types.SimpleNamespace(get=get)
    module.conf = types.SimpleNamespace(update=lambda **_: asked.append(("update", {})))
    monkeypatch.setitem(sys.modules, "templateflow", module)
    monkeypatch.setattr("vxmprep.templates._knock", lambda url: None)
    return asked


def put(home: Path, name: str, content: str = "image") -> Path:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def complaint(atlas: str) -> str:
    with pytest.raises(AtlasError) as caught:
        find_template(atlas)
    message = str(caught.value)
    assert message.startswith(f"--atlas {atlas}: ")
    assert "\n" not in message
    return message


def test_a_template_in_the_cache_is_found_without_client_or_network(home):
    image, mask = (put(home, f"{LINEAR}_{what}.nii.gz") for what in ("T1w", "desc-brain_mask"))
    assert find_template("MNI152NLin6Asym") == ("MNI152NLin6Asym", image, mask)
    assert find_template("MNI152NLin6Asym:res-1") == ("MNI152NLin6Asym", image, mask)


def test_a_template_of_the_users_own_is_found(home):
    image, mask = (
        put(home, f"tpl-Ours/tpl-Ours_{what}.nii.gz") for what in ("T1w", "desc-brain_mask")
    )
    assert find_template("Ours") == ("Ours", image, mask)


def test_a_stripped_image_is_taken_where_there_is_no_mask(home):
    image = put(home, "tpl-UNCInfant/cohort-1/tpl-UNCInfant_cohort-1_desc-brain_T1w.nii.gz")
    assert find_template("UNCInfant:cohort-1") == ("UNCInfant", image, None)


def test_a_name_that_is_no_template_is_refused_and_nobody_asked():
    said = complaint("Nonsense")
    assert "no such template;" in said
    assert "TEMPLATEFLOW_HOME" in said
    assert "--atlas FILE --atlas-name NAME" in said


def test_a_name_that_is_nearly_one_is_corrected():
    assert "did you mean MNI152NLin6Asym?" in complaint("MNI152Nlin6Asym")


def test_the_cache_is_not_filled_by_a_wrong_name(home):
    complaint("Nonsense")
    assert not list(home.iterdir())


@pytest.mark.parametrize("part", ["foo", "cohort", "res-", "cohort-1-2", "resolution=1"])
def test_a_part_that_is_no_cohort_or_resolution_is_refused(part):
    assert f"{part} is not cohort-N or res-N" in complaint(f"MNIInfant:{part}")


def test_a_template_of_several_cohorts_needs_one():
    assert "add one of 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, as :cohort-N" in complaint("MNIInfant")


def test_a_cohort_that_does_not_exist_is_refused():
    assert "no such cohort; choose of 1, 2" in complaint("MNIInfant:cohort-12")


@pytest.mark.parametrize("atlas", ["SUIT", "OASIS30ANTs:res-7"])
def test_a_template_without_image_and_mask_is_refused(atlas):
    assert "no T1w with a brain mask of that name and resolution" in complaint(atlas)


@pytest.mark.parametrize("placeholder", [True, False])
def test_without_a_network_the_two_ways_out_are_named(placeholder, home):
    """Also where the cache holds TemplateFlow's empty placeholders."""
    if placeholder:
        put(home, f"{LINEAR}_T1w.nii.gz", "")
    said = complaint("MNI152NLin6Asym")
    assert f"tpl-MNI152NLin6Asym_res-01_T1w.nii.gz is not in {home}, and cannot be fetched" in said
    assert "TEMPLATEFLOW_HOME" in said
    assert "--atlas FILE --atlas-name NAME" in said


def test_a_template_is_asked_for_by_cohort_and_resolution(client, home):
    found = find_template("MNIInfant:cohort-3:res-2")
    assert found == (
        "MNIInfant", home / f"{INFANT}_T1w.nii.gz", home / f"{INFANT}_desc-brain_mask.nii.gz"
    )  # fmt: skip
    common = {"extension": ".nii.gz", "cohort": "3", "resolution": "2"}
    assert client == [
        ("update", {}),
        ("MNIInfant", {**common, "desc": None, "suffix": "T1w"}),
        ("MNIInfant", {**common, "desc": "brain", "suffix": "mask"}),
    ]


def test_only_what_is_not_there_is_fetched(client, home):
    put(home, f"{INFANT}_T1w.nii.gz")
    put(home, f"{INFANT}_desc-brain_mask.nii.gz", "")
    find_template("MNIInfant:cohort-3:res-2")
    assert [query.get("suffix") for _, query in client] == ["mask"]


def test_a_client_that_gives_nothing_is_noticed(client, monkeypatch):
    sys.modules["templateflow"].api.get = lambda *_, **__: []
    assert "TemplateFlow did not give" in complaint("MNIInfant:cohort-3:res-2")


def test_what_the_client_says_is_made_one_line(client):
    def fail(*_, **__):
        raise RuntimeError("Could not fetch:\n   file")

    sys.modules["templateflow"].api.get = fail
    assert "(Could not fetch: file)" in complaint("MNIInfant:cohort-3:res-2")


def test_datalads_cache_is_left_to_the_client(client, monkeypatch):
    monkeypatch.setenv("TEMPLATEFLOW_USE_DATALAD", "on")
    monkeypatch.setattr("vxmprep.templates._knock", pytest.fail)
    assert find_template("MNIInfant:cohort-3:res-2")[0] == "MNIInfant"


def test_the_command_line_says_it_in_one_line_and_soon(tmp_path):
    script = (
        "from vxmprep.atlas import AtlasError, find_atlas\n"
        "try:\n    find_atlas('MNIPediatricAsym:cohort-1:res-1')\n"
        "except AtlasError as error:\n    print(error)\n"
    )
    nowhere = "http://127.0.0.1:9"
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": str(tmp_path),
        "http_proxy": nowhere, "https_proxy": nowhere,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment, cwd=PACKAGE, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("--atlas MNIPediatricAsym:cohort-1:res-1: TemplateFlow's")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
    assert not (tmp_path / ".cache" / "templateflow").exists()


def test_the_store_is_asked_for_the_file_itself(home, monkeypatch):
    asked = []

    def answer(request, timeout):
        asked.append((request.get_method(), request.full_url))
        raise OSError("no network")

    monkeypatch.setattr("vxmprep.templates.urlopen", answer)
    assert "(no network)" in complaint("MNI152NLin6Asym")
    assert asked == [("HEAD", f"http://127.0.0.1:9/{LINEAR}_T1w.nii.gz")]
