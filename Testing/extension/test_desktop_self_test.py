"""The script that runs the module's self-test in the desktop application: only tests that ran and passed give 0."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "desktop" / "in_slicer.py"
SLICER = "import sys\nclass util: exit = sys.exit\n"
MODULE = "import unittest\n\n\nclass Tests(unittest.TestCase):\n    def test_one(self): pass\n"


@pytest.mark.parametrize(
    ("module", "code", "expected"),
    [
        (MODULE, 0, "OK"),
        (MODULE + "    def test_two(self): self.fail('the mask is empty')\n", 1, "the mask is empty"),
        (MODULE + "    def test_two(self): self.skipTest('torch is missing')\n", 1, "torch is missing"),
        ("", 1, "Ran 0 tests"),
        ("import nothing_like_that\n", 1, "No module named 'nothing_like_that'"),
    ],
)
def test_exit_code_and_report(tmp_path, module, code, expected):
    (tmp_path / "slicer.py").write_text(SLICER)
    (tmp_path / "FastTextDiffSegment.py").write_text(module)
    report = tmp_path / "report.txt"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.run([sys.executable, str(SCRIPT), str(report)], env=environment, timeout=60, check=False)
    assert process.returncode == code
    assert expected in report.read_text(encoding="utf-8")
