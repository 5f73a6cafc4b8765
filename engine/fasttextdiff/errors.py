"""The one exception that users see. Knows nothing about where it is raised or shown."""


class FastTextDiffError(Exception):
    """A problem the user can act on, told in one line: what was wrong, where, and what to do.

    The command line prints the message alone and exits with :attr:`exit_code`; every other exception is a defect of
    ours.
    """

    exit_code = 1


class UsageError(FastTextDiffError):
    """The request itself cannot be carried out (a wrong option, an empty finding); exit code 2."""

    exit_code = 2


class Cancelled(FastTextDiffError):
    """The user stopped the run; nothing was written. Exit code 130, as a shell reports Ctrl-C."""

    exit_code = 130
