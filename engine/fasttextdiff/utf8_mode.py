"""Makes the process use UTF-8 if the locale supports only ASCII. Standard library only.

Python does this itself under `LC_ALL=C`, unless `PYTHONUTF8=0`. Without it, C++ libraries abort the process on a file
name with an umlaut.
"""

import os
import sys


def require_utf8() -> None:
    """Restart the same command in Python's UTF-8 mode (PEP 540) if needed; the process id stays the same."""
    if sys.getfilesystemencoding() != "ascii" or sys.flags.utf8_mode:
        return
    os.environ["PYTHONUTF8"] = "1"  # for the processes of a batch too
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
