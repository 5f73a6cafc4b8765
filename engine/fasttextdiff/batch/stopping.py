"""One-shot, thread-safe stop signal. Knows nothing about what it stops."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from multiprocessing import Pipe


class Stop:
    """A stop signal that cannot be reset.

    Attributes:
        connection: becomes readable when the signal is set, for `multiprocessing.connection.wait`.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self.connection, self._other_end = Pipe(duplex=False)

    def set(self) -> None:
        """Set the signal; setting it twice is harmless."""
        self._event.set()
        self._other_end.close()

    def is_set(self) -> bool:
        """Whether the signal is set."""
        return self._event.is_set()

    def then(self, act: Callable[[], None]) -> None:
        """Call `act` in its own thread when the signal is set."""

        def wait() -> None:
            self._event.wait()
            act()

        threading.Thread(target=wait, daemon=True).start()

    def at_end_of(self, descriptor: int) -> None:
        """Set the signal at the end of this file; for a pipe, when its other end is closed."""

        def read() -> None:
            # No buffered file: Python aborts at exit if a thread is waiting in one.
            try:
                while os.read(descriptor, 1 << 16):
                    pass
            except OSError:  # closed
                pass
            self.set()

        threading.Thread(target=read, daemon=True).start()
