"""One-shot, thread-safe stop signal. Knows nothing about what is stopped."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from multiprocessing import Pipe


class Stop:
    """Set once and for all.

    Attributes:
        connection: ready to be read, for `multiprocessing.connection.wait`, as soon as the signal is set.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self.connection, self._other_end = Pipe(duplex=False)

    def set(self) -> None:
        """Set the signal; setting it twice is harmless."""
        self._event.set()
        self._other_end.close()

    def is_set(self) -> bool:
        """Whether it is wished."""
        return self._event.is_set()

    def then(self, act: Callable[[], None]) -> None:
        """Call `act` in a thread of its own when it is wished."""

        def wait() -> None:
            self._event.wait()
            act()

        threading.Thread(target=wait, daemon=True).start()

    def at_end_of(self, descriptor: int) -> None:
        """Set the signal when this file has been read to its end: for a pipe, when its other end is closed."""

        def read() -> None:
            # Not through a buffered file: a thread that waits in one makes Python abort when it ends.
            try:
                while os.read(descriptor, 1 << 16):
                    pass
            except OSError:  # closed
                pass
            self.set()

        threading.Thread(target=read, daemon=True).start()
