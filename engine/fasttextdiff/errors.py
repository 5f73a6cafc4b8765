"""The exceptions that users see, and a library's error in one line. Knows nothing about where they are shown."""


class FastTextDiffError(Exception):
    """A problem the user can act on, in one line: what was wrong, where, and what to do.

    The command line prints the message alone and exits with :attr:`exit_code`; every other exception is a defect of
    ours.
    """

    exit_code = 1


class UsageError(FastTextDiffError):
    """The request itself cannot be carried out (a wrong option, an empty finding); exit code 2."""

    exit_code = 2


class ModelError(FastTextDiffError):
    """The model folder is incomplete, damaged or of another version."""


class DeviceMemoryError(FastTextDiffError):
    """The device has too little memory even for a single slice; another one may have enough."""


class MissingPackagesError(FastTextDiffError):
    """Python packages that the engine needs are not there, too old or damaged."""


class Cancelled(FastTextDiffError):
    """The user stopped the run; nothing was written. Exit code 130, as a shell reports Ctrl-C."""

    exit_code = 130


def one_line(error: BaseException) -> str:
    """What a library's exception says, as one line: the first two lines of its text, which hold the reason.

    Returns:
        At most 300 characters; the name of the exception's type if it says nothing.
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__
