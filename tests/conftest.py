"""What the tests share: the real scans, where they are at hand."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real cohorts: VXMPREP_TEST_DATA, or shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("VXMPREP_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"real scans are not at hand: {folder}; set VXMPREP_TEST_DATA")
    return folder
