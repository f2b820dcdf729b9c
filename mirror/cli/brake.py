"""How a command is stopped: by a signal in good order, by a second one at once."""

import asyncio
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self

from mirror.errors import ExitCode
from mirror.stopping import stopping

GRACE_S: Final = 10.0  # what is under way has so long to end, once it is asked to
_TELLING_S: Final = 1.0  # and the last word so long to be said
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_RELEASED: Final = 0  # no signal has this number


class Brake:
    """While it is held, a first signal cancels a task, and a second one ends the process.

    A thread of its own waits for them: whatever else hangs, be it a disk or whoever reads stderr,
    does not hang here. What is ignored already, as under nohup, stays ignored.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        """`tell` says why the process ends at once."""
        self._tell = tell
        self._cancel: Callable[[], object] = lambda: None
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._thread = threading.Thread(target=self._watch, name="brake", daemon=True)
        self._before: dict[signal.Signals, Any] = {}
        self._wakes = -1

    def __enter__(self) -> Self:
        # The number is written at once, also while the main thread is deep in a call.
        self._wakes = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in _SIGNALS:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, _do_nothing)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(self._wakes)
        os.write(self._writing, bytes([_RELEASED]))
        self._thread.join()
        os.close(self._writing)
        os.close(self._reading)

    def stops(self, task: "asyncio.Task[Any]") -> None:
        """From now on a signal cancels this task; it is the running one."""
        loop = asyncio.get_running_loop()
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        if stopping.is_set():
            task.cancel()

    # -- on its own thread -------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._next(None) == _RELEASED:
            return
        stopping.set()
        with suppress(RuntimeError):  # it has just ended by itself
            self._cancel()
        number = self._next(GRACE_S)
        if number != _RELEASED:
            self._leave("a second signal" if number else f"not done within {GRACE_S:.0f} s")

    def _next(self, wait_s: float | None) -> int | None:
        """The next of our signals, or that it is over; None after so long."""
        until_s = None if wait_s is None else time.monotonic() + wait_s
        while True:
            left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
            if not select.select([self._reading], [], [], left_s)[0]:
                return None
            number = os.read(self._reading, 1)[0]
            if number == _RELEASED or number in _SIGNALS:
                return number

    def _leave(self, why: str) -> None:
        """As a kill would, which every run is made for: the next one finishes what it began."""
        telling = threading.Thread(target=self._tell, args=[why], daemon=True)
        telling.start()
        telling.join(_TELLING_S)
        os._exit(ExitCode.INTERRUPTED)


def _do_nothing(_number: int, _frame: object) -> None:
    """The other thread knows."""
