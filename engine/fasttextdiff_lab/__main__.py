"""`python -m fasttextdiff_lab`: how the bundled model is made, measured and compared. Commands are in `commands`."""

from fasttextdiff_lab.commands import main

if __name__ == "__main__":
    main()
