"""`python -m fasttextdiff` is the command line; `python -m fasttextdiff worker` serves 3D Slicer."""

import sys

from fasttextdiff.utf8_mode import require_utf8

if __name__ == "__main__":
    require_utf8()
    if sys.argv[1:] == ["worker"]:
        # not through the command line: its packages may be missing in 3D Slicer, and the worker reports which
        from fasttextdiff.worker.server import main
    else:
        from fasttextdiff.cli import main
    main()
