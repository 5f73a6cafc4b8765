"""`python -m fasttextdiff` is the command line; `python -m fasttextdiff worker` serves 3D Slicer."""

import sys

if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        # before the command line, whose packages may be missing in 3D Slicer: the worker says which
        from fasttextdiff.worker import main
    else:
        from fasttextdiff.cli import main
    main()
