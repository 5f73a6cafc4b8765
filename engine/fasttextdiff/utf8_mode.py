"""Has the process speak UTF-8 where the locale knows nothing but ASCII. Standard library only.

Under `LC_ALL=C` Python does so by itself, unless that is switched off (`PYTHONUTF8=0`): then a name with an umlaut
comes in as something that libraries written in C++ end the whole process at.
"""

import os
import sys


def require_utf8() -> None:
    """Start the same command again in Python's UTF-8 mode (PEP 540), if need be; the process keeps its number."""
    if sys.getfilesystemencoding() != "ascii" or sys.flags.utf8_mode:
        return
    os.environ["PYTHONUTF8"] = "1"  # for the processes of a batch too
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
