"""A process that has loaded the program, and forks whatever is to run with it: see `starts.py`.

What is forked differs from `python -m` only in what is loaded already: its streams, environment,
folder, arguments, descriptors, signals and its end are its own.
"""

import gc
import importlib
import json
import os
import runpy
import select
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

STATUS: Final = struct.Struct("i")
MESSAGE_BYTES: Final = 1 << 17

# Not obstore, whose threads would not be there in a child.
_LOADED: Final = (
    "asyncssh",
    "mirror.check",
    "mirror.cli.main",
    "mirror.commands",
    "mirror.destinations.bucket_site",
    "mirror.destinations.sftp_site",
    "mirror.findings",
    "mirror.online",
    "mirror.page",
    "mirror.profile.loading",
    "mirror.quarantine",
    "mirror.run",
    "mirror.session",
    "mirror.shelf",
    "mirror.status_text",
    "mirror.verify",
    "tests.integration.child",
)


@dataclass(frozen=True)
class Job:
    """What a child is to be: what `python` is told, its folder, environment and streams."""

    words: list[str]
    folder: str
    environ: dict[str, str]
    streams: tuple[int, ...]

    def dress(self) -> None:
        """Become what is told, but for the program."""
        for number, stream in enumerate(self.streams, start=1):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(self.folder)
        own = {name: os.environ[name] for name in _OF_THE_INTERPRETER}
        os.environ.clear()
        os.environ.update(self.environ | own)

    def run(self) -> None:
        """As `python -c` or `python -m` does."""
        how, what, *args = self.words
        sys.path[0] = self.folder
        if how == "-c":
            sys.path[0], sys.argv = "", ["-c", *args]
            exec(what, vars(sys.modules["__main__"]))
        else:
            sys.argv = [what, *args]
            runpy.run_module(what, run_name="__main__", alter_sys=True)


def _load() -> None:
    with _without_rich():
        importlib.import_module("structlog")
    for name in _LOADED:
        importlib.import_module(name)
    loaded = sorted({"obstore", "rich"} & sys.modules.keys())
    assert not loaded, f"a command would not have loaded {loaded}"
    threads = os.listdir("/proc/self/task")  # noqa: PTH208
    assert len(threads) == 1, "a thread would be gone in whatever is forked"
    gc.collect()
    gc.freeze()  # whoever collects would write to all of it, and copy it thereby


@contextmanager
def _without_rich() -> Iterator[None]:
    """As a command loads structlog."""
    sys.modules["rich"] = None  # type: ignore[assignment]  # as if it were not there
    yield
    del sys.modules["rich"]


def _asked(control: socket.socket) -> tuple[Job, socket.socket] | None:
    """What is to be forked, and who is to be told; None when nobody will ask any more."""
    message, given, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 3)
    if not message:
        return None
    told: dict[str, Any] = json.loads(message)
    answer, *streams = given
    return Job(**told, streams=tuple(streams)), socket.socket(fileno=answer)


def _serve(control: socket.socket) -> Job | None:
    """Fork what is asked for, until nobody asks; returns in each child, too, with what it is."""
    running: dict[int, tuple[int, socket.socket]] = {}  # by the descriptor that tells of its end
    while True:
        ready, _, _ = select.select([control.fileno(), *running], [], [])
        for child in running.keys() & set(ready):
            _tell_end(child, *running.pop(child))
        if control.fileno() not in ready:
            continue
        asked = _asked(control)
        if asked is None:
            return None
        job, answer = asked
        pid = os.fork()
        if not pid:
            for held in (control, answer, *(other for _, other in running.values())):
                held.close()
            for child in running:
                os.close(child)
            return job
        for stream in job.streams:
            os.close(stream)
        child = os.pidfd_open(pid)
        running[child] = pid, answer
        with suppress(OSError):  # nobody waits for it any more
            socket.send_fds(answer, [STATUS.pack(pid)], [child])


def _tell_end(child: int, pid: int, answer: socket.socket) -> None:
    _, status = os.waitpid(pid, 0)
    os.close(child)
    with answer, suppress(OSError):
        answer.send(STATUS.pack(os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    # What Python added when it started (LC_CTYPE), it would add in each child, too.
    _OF_THE_INTERPRETER = set(os.environ) - set(sys.argv[2:])
    _load()
    job = None
    with suppress(KeyboardInterrupt):  # who interrupts the tests wants to hear of them only
        job = _serve(socket.socket(fileno=int(sys.argv[1])))
    if job is not None:
        job.dress()
        job.run()
