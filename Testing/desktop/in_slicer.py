"""Runs the module's self-test inside a real 3D Slicer and ends Slicer with the result.

    Slicer --no-main-window --additional-module-paths FastTextDiffSegment --python-script in_slicer.py REPORT

Exit code 0: every test ran and passed. A skipped test counts as failed, since packages are missing then. The report is
a file, because Slicer has no console on Windows.
"""

import sys
import traceback
import unittest

import slicer


def run_self_test(report):
    """Run every test of the module; returns the exit code."""
    suite = unittest.defaultTestLoader.loadTestsFromName("FastTextDiffSegment")
    result = unittest.TextTestRunner(stream=report, verbosity=2).run(suite)
    for test, reason in result.skipped:
        print(f"{test} was skipped: {reason}", file=report)
    return 0 if result.testsRun and result.wasSuccessful() and not result.skipped else 1


def main():
    """Write the report; returns the exit code, 1 for any error."""
    with open(sys.argv[-1], "w", encoding="utf-8") as report:  # noqa: PTH123 - a path as typed
        try:
            return run_self_test(report)
        except Exception:
            traceback.print_exc(file=report)
            return 1


slicer.util.exit(main())
