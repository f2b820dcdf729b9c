"""Progress on a terminal: one line for the whole, and one for each file that takes long.

Calls only count; a second thread draws a few times a second. Calm on purpose: a file gets a line
when it has been under way for a second, so that thousands of small ones do not flicker past.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Final, Self, TextIO

from rich.console import Console, Group
from rich.filesize import decimal
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mirror.logs import printable

_MOST_FILES: Final = 4
_SHOWN_AFTER_S: Final = 1.0
_DRAWN_PER_S: Final = 4
_PACE_WINDOW_S: Final = 30.0
_NARROWEST_NAME: Final = 12
_MINUTE_S: Final = 60


@dataclass(slots=True)
class _File:
    """One that is under way."""

    name: str
    size_bytes: int | None
    begun_s: float
    came_bytes: int = 0


class _Pace:
    """How fast something grows, over the last half minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now_s: float, amount: int) -> None:
        """It has grown to this; all but the last of what is older than the window is forgotten."""
        self._seen.append((now_s, amount))
        while len(self._seen) > 1 and now_s - self._seen[1][0] >= _PACE_WINDOW_S:
            self._seen.popleft()

    @property
    def per_s(self) -> float:
        """0 before there is anything to tell from."""
        (begun_s, first), (now_s, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now_s - begun_s) if now_s > begun_s else 0.0


class Bars:
    """Draws a run; `with`, and `lines` for what is to appear above."""

    def __init__(
        self,
        stderr: TextIO,
        *,
        console: Console | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console(file=stderr)
        self._clock_s = clock_s
        self._live: Live | None = None
        self._under_way: dict[str, _File] = {}
        self._begin_part(0, 0)
        self.lines = _Lines(self._console)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hide()

    # -- what happens ------------------------------------------------------------------------------

    def plan(self, files: int, size_bytes: int) -> None:
        """A new part of the run: what is drawn begins again."""
        self._hide()
        self._begin_part(files, size_bytes)
        if files:
            # A Live that is started again would wipe the lines above it: each part has its own.
            self._live = Live(
                console=self._console,
                get_renderable=self.drawn,
                refresh_per_second=_DRAWN_PER_S,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()

    def begin(self, asset_id: str, name: str, size_bytes: int | None) -> None:
        """A file starts, or goes on after a connection broke."""
        file = self._under_way.setdefault(asset_id, _File(name, size_bytes, self._clock_s()))
        file.size_bytes = size_bytes

    def advance(self, asset_id: str, size_bytes: int) -> None:
        """So many of its bytes came."""
        self._came_bytes += size_bytes
        self._under_way[asset_id].came_bytes += size_bytes

    def end(self, asset_id: str) -> None:
        """A file is done, or has failed; the last one takes the bars away."""
        self._ended += 1
        file = self._under_way.pop(asset_id, None)
        if file and file.size_bytes and self._size_bytes:
            # What was here before this run, or will not come after a failure, is not waited for.
            self._size_bytes -= max(0, file.size_bytes - file.came_bytes)
        if self._ended >= self._files:
            self._hide()

    def _begin_part(self, files: int, size_bytes: int) -> None:
        self._files, self._size_bytes = files, size_bytes
        self._ended = self._came_bytes = 0
        self._files_pace, self._bytes_pace = _Pace(), _Pace()
        self._under_way.clear()
        self._note()

    def _hide(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    # -- what is seen ------------------------------------------------------------------------------

    def drawn(self) -> Group:
        """The bars as they are now."""
        self._note()
        whole = Table.grid(padding=(0, 2, 0, 0), expand=True)
        whole.add_column(no_wrap=True)
        whole.add_column(ratio=1)
        whole.add_column(no_wrap=True, justify="right")
        files = f"{self._ended} of {self._files} {'file' if self._files == 1 else 'files'}"
        whole.add_row(Text(files), self._bar(), Text(self._numbers()))
        return Group(whole, *map(self._row, self._long_ones()))

    def _note(self) -> None:
        now_s = self._clock_s()
        self._files_pace.note(now_s, self._ended)
        self._bytes_pace.note(now_s, self._came_bytes)

    @property
    def _knows_bytes(self) -> bool:
        return self._size_bytes >= self._came_bytes and self._size_bytes > 0

    def _bar(self) -> ProgressBar:
        if self._knows_bytes:
            return ProgressBar(total=self._size_bytes, completed=self._came_bytes)
        return ProgressBar(total=max(1, self._files), completed=self._ended)

    def _numbers(self) -> str:
        of = f" of {decimal(self._size_bytes)}" if self._knows_bytes else ""
        told = [f"{decimal(self._came_bytes)}{of}", f"{decimal(int(self._bytes_pace.per_s))}/s"]
        left_s = self._left_s()
        return "  ".join(told if left_s is None else [*told, f"{_duration(left_s)} left"])

    def _left_s(self) -> float | None:
        """By bytes where they are known, else by files; None while nothing moves."""
        if self._knows_bytes:
            left, pace = self._size_bytes - self._came_bytes, self._bytes_pace.per_s
        else:
            left, pace = self._files - self._ended, self._files_pace.per_s
        return left / pace if pace else None

    def _long_ones(self) -> Iterator[_File]:
        # A copy in one step: the other thread goes on adding and dropping.
        files = list(self._under_way.values())
        now_s = self._clock_s()
        return islice((f for f in files if now_s - f.begun_s >= _SHOWN_AFTER_S), _MOST_FILES)

    def _row(self, file: _File) -> Text:
        of = f" of {decimal(file.size_bytes)}" if file.size_bytes else ""
        came = f"{decimal(file.came_bytes)}{of}"
        width = max(_NARROWEST_NAME, self._console.width - len(came) - 4)
        name = Text(f"  {printable(file.name)}", no_wrap=True)
        name.truncate(width, overflow="ellipsis", pad=True)
        return name.append(f"  {came}", style="dim")


class _Lines:
    """A logger whose lines appear above the bars, whole and untouched."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def msg(self, line: str) -> None:
        """Print one."""
        self._console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)

    debug = info = warning = error = msg


def _duration(duration_s: float) -> str:
    """Roughly: what is left is a guess."""
    if duration_s < _MINUTE_S:
        return f"{duration_s:.0f} s"
    hours, minutes = divmod(round(duration_s / _MINUTE_S), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
