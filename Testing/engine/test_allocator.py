"""Freed memory is kept by our own processes."""

import platform
import subprocess
import sys

import pytest

CHURN = """
import resource
import sys
import numpy as np
from fasttextdiff.model.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def churn():
    for _ in range(20):
        arrays = [np.empty(8 << 20, np.uint8) for _ in range(4)]
        for array in arrays:
            array[::4096] = 1
        del array, arrays

churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how):
    return int(subprocess.check_output([sys.executable, "-c", CHURN, how], text=True, timeout=60))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is no glibc")
def test_freed_memory_is_reused_without_page_faults():
    assert page_faults("keep") < 0.01 * page_faults("as it comes")
