"""`python -m fasttextdiff` is the command line."""

from fasttextdiff.cli import main

if __name__ == "__main__":
    main()
