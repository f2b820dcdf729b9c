"""How a process of the program starts: anew, or forked from one that has loaded it.

To load the program takes longer than most commands do, and the tests start hundreds of them. So
each worker keeps two processes that have loaded it (`loaded.py`), which fork by turns whatever is
to run; two, since whoever runs twice is to see two orders of a set. Some start anew in any case:

- the first of each command, which must not rest on what another one would load;
- what is given variables that an interpreter or a package may read when it starts;
- everything, where the system has no descriptors of processes, and with `MIRROR_STARTS=anew`.
"""

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.integration.loaded import STATUS

PROJECT: Final = Path(__file__).parents[2]
_READ_LATE: Final = ("PLANTED_", "MIRROR_")  # variables that only the program itself reads
CAN_FORK: Final = os.environ.get("MIRROR_STARTS") != "anew" and hasattr(os, "pidfd_open")


class Forked:
    """A process, as `asyncio.subprocess` has them."""

    def __init__(self, answer: socket.socket, told: bytes, descriptor: int, pipes: list[int]):
        (self.pid,) = STATUS.unpack(told)
        self._answer = answer
        self._descriptor = descriptor
        self._pipes = pipes
        self._code: int | None = None

    @property
    def returncode(self) -> int | None:
        """How it ended; None as long as it runs."""
        if self._code is None:
            try:
                told = self._answer.recv(STATUS.size)
            except BlockingIOError:
                return None
            self._answer.close()
            os.close(self._descriptor)
            (self._code,) = STATUS.unpack(told)
        return self._code

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        while (code := self.returncode) is None:
            await _readable(self._answer.fileno())
        return code

    async def communicate(self) -> tuple[bytes, bytes]:
        """All that it says, once it has ended."""
        out, err = await asyncio.gather(*map(_read, self._pipes))
        await self.wait()
        return out, err


Started = Process | Forked


class Loaded:
    """One process that forks."""

    def __init__(self, control: socket.socket):
        self._control = control

    async def start(
        self, words: list[str], folder: Path, environ: Mapping[str, str], *, out: int
    ) -> Forked:
        """A process that says what it says to a pipe, or to nobody."""
        asked = json.dumps({"words": words, "folder": str(folder), "environ": dict(environ)})
        told, answer = socket.socketpair(type=socket.SOCK_SEQPACKET)
        told.setblocking(False)
        ours: list[int] = []
        with answer, ExitStack() as stack:
            streams = [answer.fileno()]
            for _ in ("stdout", "stderr"):
                stream = _pipe(ours) if out == PIPE else os.open(os.devnull, os.O_WRONLY)
                stack.callback(os.close, stream)
                streams.append(stream)
            socket.send_fds(self._control, [asked.encode()], streams)
        await _readable(told.fileno())
        pid, (end,), _, _ = socket.recv_fds(told, STATUS.size, 1, socket.MSG_CMSG_CLOEXEC)
        return Forked(told, pid, end, ours)


def _pipe(ours: list[int]) -> int:
    """The end for a child; the other one is added to ours."""
    reading, writing = os.pipe()
    ours.append(reading)
    return writing


@contextmanager
def _loaded() -> Iterator[Loaded]:
    control, asked = socket.socketpair(type=socket.SOCK_SEQPACKET)
    environ = environment(PROJECT)
    number = asked.fileno()
    with asked:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.loaded", str(number), *environ],
            stdin=DEVNULL, stdout=PIPE,  # a pipe, as most of its children have
            cwd=PROJECT, env=environ, pass_fds=[number],
        )  # fmt: skip
    with process, control:  # it ends when that is closed
        yield Loaded(control)


class _Starts:
    """Those of this worker, and the commands that have been started."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._turns: Iterator[Loaded] | None = None
        self._met: set[tuple[str, ...]] = set()

    def loaded(self) -> Loaded:
        """The one whose turn it is."""
        if self._turns is None:
            self._turns = itertools.cycle(
                [self._stack.enter_context(_loaded()), self._stack.enter_context(_loaded())]
            )
        return next(self._turns)

    def is_new(self, words: list[str]) -> bool:
        """Whether it is the first of a command, such as `sync family` or `profile new`."""
        command = tuple(word for word in words[:4] if word.isalpha())
        known = command in self._met
        self._met.add(command)
        return not known

    def close(self) -> None:
        self._stack.close()
        self._turns = None


_STARTS: Final = _Starts()


@contextmanager
def ending() -> Iterator[None]:
    """Those that have loaded the program end with the tests."""
    yield
    _STARTS.close()


def environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of our own environment but PATH."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(PROJECT), **more}


async def started(
    *words: str, folder: Path, environ: Mapping[str, str], out: int = PIPE
) -> Started:
    """`python` with these words (`-m` and a module, or `-c` and a text), and without an input."""
    if not CAN_FORK or _is_read_early(environ) or _STARTS.is_new(list(words)):
        return await anew(*words, folder=folder, environ=environ, out=out)
    return await forked(*words, folder=folder, environ=environ, out=out)


async def anew(*words: str, folder: Path, environ: Mapping[str, str], out: int = PIPE) -> Process:
    """The same, by an interpreter that starts."""
    return await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=DEVNULL, stdout=out, stderr=out, cwd=folder, env=environ
    )


async def forked(*words: str, folder: Path, environ: Mapping[str, str], out: int = PIPE) -> Forked:
    """The same, by one that has started."""
    return await _STARTS.loaded().start(list(words), folder, environ, out=out)


def _is_read_early(environ: Mapping[str, str]) -> bool:
    """Whether any of these variables could be read before the program is."""
    usual = environment(PROJECT).items()
    return any(
        name != "HOME" and not name.startswith(_READ_LATE) for name, _ in environ.items() - usual
    )


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(descriptor, lambda: None if readable.done() else readable.set_result(None))
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)


async def _read(pipe: int) -> bytes:
    """What comes out of a pipe until its end, at which it is closed."""
    chunks: list[bytes] = []
    try:
        while not chunks or chunks[-1]:
            await _readable(pipe)
            chunks.append(os.read(pipe, 1 << 16))
    finally:
        os.close(pipe)
    return b"".join(chunks)
