"""Exceptions that users see, and one-line texts for errors of libraries. Knows nothing about where they are shown."""


class FastTextDiffError(Exception):
    """A problem the user can act on, in one line: what was wrong, where, and what to do.

    The command line prints only the message and exits with :attr:`exit_code`; any other exception is a bug.
    """

    exit_code = 1


class UsageError(FastTextDiffError):
    """The request itself cannot be carried out (a wrong option, an empty finding); exit code 2."""

    exit_code = 2


class ModelError(FastTextDiffError):
    """The model folder is incomplete, damaged or of another version."""


class DeviceMemoryError(FastTextDiffError):
    """The device has too little memory even for a single slice; another device may have enough."""


class MissingPackagesError(FastTextDiffError):
    """Required Python packages are missing, too old or damaged."""


class Cancelled(FastTextDiffError):
    """The user stopped the run; nothing was written. Exit code 130, as a shell reports Ctrl-C."""

    exit_code = 130


def require_type(value: object, kind: type | tuple[type, ...], name: str, advice: str = "") -> None:
    """Refuse an argument of another type.

    Args:
        value: the argument.
        kind: a type, or several.
        name: its name.
        advice: where to get such a value.

    Raises:
        UsageError: it is of another type.
    """
    if not isinstance(value, kind):
        kinds = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        more = f": {advice}" if advice else ""
        raise UsageError(f"'{name}' must be of type {kinds}, not {type(value).__name__}{more}")


def one_line(error: BaseException) -> str:
    """The text of a library's exception on one line: its first two lines, which hold the reason.

    Returns:
        At most 300 characters; the name of the exception's type if it has no text.
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether this computer's memory was too small; PyTorch says so in the text of a RuntimeError."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in _ALLOCATION_FAILED)


# the texts of Linux and macOS, and of Windows
_ALLOCATION_FAILED = ("can't allocate memory", "not enough memory")
