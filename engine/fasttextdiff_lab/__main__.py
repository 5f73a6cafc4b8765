"""`python -m fasttextdiff_lab`: make, measure and compare the bundled model. Commands are in `commands`."""

from fasttextdiff_lab.commands import main

if __name__ == "__main__":
    main()
