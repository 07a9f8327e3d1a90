"""The package can be imported however it is installed, and says one version everywhere."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import vxmprep

ROOT = Path(__file__).parents[1]
LEFT_OUT = (
    ".git",
    ".venv",
    "build",
    "dist",
    "*.egg-info",
    "__pycache__",
    "demo",
    "work",
    ".*_cache",
)
WHAT_TO_IMPORT = "import vxmprep, vxmprep.workflows, vxmprep.cli.demo, vxmprep.simulate"


def _run(*arguments: object, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _pip(*arguments: object, cwd: Path) -> str:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation")
    return _run("-m", "pip", arguments[0], *quiet, *arguments[1:], cwd=cwd)


def _build(hook: str, source: Path, target: Path) -> Path:
    """Call one hook of the build backend, as every front end does."""
    code = f"from setuptools import build_meta; print(build_meta.{hook}({str(target)!r}))"
    return target / _run("-c", code, cwd=source).splitlines()[-1]


def _where(path: Path, cwd: Path) -> tuple[Path, Path]:
    """Import from a folder alone and say which files were found."""
    code = (
        f"import sys; sys.path.insert(0, {str(path)!r}); {WHAT_TO_IMPORT}; "
        "print(vxmprep.__file__); print(vxmprep.workflows.__file__)"
    )
    package, workflows = _run("-I", "-c", code, cwd=cwd).splitlines()[-2:]
    return Path(package), Path(workflows)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Copy the checkout as it is, symlink and all."""
    target = tmp_path_factory.mktemp("source") / "vxmprep"
    shutil.copytree(ROOT, target, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return target


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory) -> Path:
    return _build("build_sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    return _build("build_wheel", source, tmp_path_factory.mktemp("wheel"))


def test_workflows_is_a_symlink_in_the_checkout():
    link = ROOT / "vxmprep" / "workflows"
    assert link.is_symlink()
    assert link.readlink() == Path("../workflows")


def test_a_wheel_can_be_imported(wheel, tmp_path):
    _pip("install", "--target", tmp_path / "site", wheel, cwd=tmp_path)
    package, workflows = _where(tmp_path / "site", tmp_path)
    assert package == tmp_path / "site" / "vxmprep" / "__init__.py"
    assert workflows == tmp_path / "site" / "vxmprep" / "workflows" / "__init__.py"


def test_an_sdist_can_be_installed_and_imported(sdist, tmp_path):
    _pip("install", "--target", tmp_path / "site", sdist, cwd=tmp_path)
    package, workflows = _where(tmp_path / "site", tmp_path)
    assert package == tmp_path / "site" / "vxmprep" / "__init__.py"
    assert workflows == tmp_path / "site" / "vxmprep" / "workflows" / "__init__.py"


def test_an_editable_install_is_imported_from_the_checkout(source, tmp_path):
    where = ("--prefix", tmp_path, "--ignore-installed", "--no-warn-script-location")
    _pip("install", *where, "--editable", source, cwd=tmp_path)
    installed = sysconfig.get_path("purelib", vars={"base": str(tmp_path)})
    behind = [path for path in sys.path if path.endswith("site-packages")]
    code = (
        f"import site, sys; site.addsitedir({installed!r}); sys.path += {behind!r}; "
        f"{WHAT_TO_IMPORT}; print(vxmprep.__file__); print(vxmprep.workflows.__file__)"
    )
    package, workflows = map(Path, _run("-I", "-S", "-c", code, cwd=tmp_path).splitlines()[-2:])
    assert package == source / "vxmprep" / "__init__.py"
    assert workflows.resolve() == source / "workflows" / "__init__.py"


def test_the_checkout_can_be_imported_without_installing(source, tmp_path):
    package, workflows = _where(source, tmp_path)
    assert package == source / "vxmprep" / "__init__.py"
    assert workflows.resolve() == source / "workflows" / "__init__.py"


def test_wheel_and_sdist_hold_the_same_package(wheel, sdist):
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if name.startswith("vxmprep/")}
    with tarfile.open(sdist) as archive:
        files = (name.split("/", 1)[-1] for name in archive.getnames() if "." in Path(name).name)
        in_sdist = {name for name in files if name.startswith("vxmprep/")}
    assert in_wheel == in_sdist
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / "vxmprep").rglob("*.py")}
    here |= {
        f"vxmprep/{path.relative_to(ROOT).as_posix()}" for path in ROOT.glob("workflows/*.py")
    }
    assert here <= in_wheel
    slurm = {f"vxmprep/data/slurm/{path.name}" for path in (ROOT / "containers/slurm").iterdir()}
    assert slurm <= in_wheel


def test_the_wheel_has_one_version_its_licence_and_its_commands(wheel):
    [found] = importlib.metadata.Distribution.discover(path=[str(wheel)])
    assert found.version == vxmprep.__version__
    assert found.metadata["Requires-Python"] == ">=3.11"
    assert {entry.name: entry.value for entry in found.entry_points} == {
        "vxmprep": "vxmprep.cli.entry:vxmprep",
        "vxmprep-apply": "vxmprep.cli.entry:apply",
        "vxmprep-convert": "vxmprep.cli.entry:convert",
        "vxmprep-demo": "vxmprep.cli.entry:demo",
        "vxmprep-doctor": "vxmprep.cli.entry:doctor",
        "vxmprep-slurm": "vxmprep.cli.entry:slurm",
    }
    with zipfile.ZipFile(wheel) as archive:
        [licence] = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
        assert "Apache License" in archive.read(licence).decode()


def test_the_citation_has_the_version_of_the_package():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    [version] = re.findall(r"^version: (\S+)$", text, flags=re.MULTILINE)
    assert version == vxmprep.__version__
