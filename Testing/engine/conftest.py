"""What several test files need: the bundled samples, and the folder of research data if it is there."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"


@pytest.fixture
def samples():
    return ROOT / "Resources" / "samples"


@pytest.fixture
def shared():
    if not SHARED.is_dir():
        pytest.skip("the research data is not here")
    return SHARED
