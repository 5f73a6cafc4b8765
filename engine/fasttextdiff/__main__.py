"""`python -m fasttextdiff` is the command line; `python -m fasttextdiff worker` serves 3D Slicer.

`over-ssh` and `far-worker` are the two ends of a worker on another machine.
"""

import sys

from fasttextdiff.utf8_mode import require_utf8

if __name__ == "__main__":
    require_utf8()
    if sys.argv[1:] == ["worker"]:
        # not through the command line: its packages may be missing in 3D Slicer, and the worker reports which
        from fasttextdiff.worker.server import main
    elif sys.argv[1:] == ["far-worker"]:
        from fasttextdiff.worker.far_end import main
    elif sys.argv[1:2] == ["over-ssh"]:
        from functools import partial

        from fasttextdiff.worker.over_ssh import main as serve

        main = partial(serve, sys.argv[2:])
    else:
        from fasttextdiff.cli import main
    main()
