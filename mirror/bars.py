"""Progress on a terminal: the whole, each mirror of several, files that take long, last failures.

Calls only count; a second thread draws a few times a second. Calm on purpose: a file gets a line
when it has been under way for a second, so that thousands of small ones do not flicker past.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
_MOST_PARTS: Final = 6
_MOST_FAILURES: Final = 2
_WIDEST_PART: Final = 24
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


@dataclass(slots=True)
class _Amount:
    """How much there is to do, and how much of it is done."""

    files: int = 0
    size_bytes: int = 0  # as far as it is known
    ended: int = 0
    came_bytes: int = 0

    @property
    def is_over(self) -> bool:
        return self.ended >= self.files

    @property
    def knows_bytes(self) -> bool:
        return self.size_bytes >= self.came_bytes and self.size_bytes > 0

    def bar(self) -> ProgressBar:
        """By bytes where they are known, else by files."""
        if self.knows_bytes:
            return ProgressBar(total=self.size_bytes, completed=self.came_bytes)
        return ProgressBar(total=max(1, self.files), completed=self.ended)

    def came(self) -> str:
        of = f" of {decimal(self.size_bytes)}" if self.knows_bytes else ""
        return f"{decimal(self.came_bytes)}{of}"


def _sum(amounts: Iterable[_Amount]) -> _Amount:
    """All of them; their bytes are known when those of each are."""
    whole, is_known = _Amount(), True
    for one in amounts:
        whole.files += one.files
        whole.ended += one.ended
        whole.came_bytes += one.came_bytes
        whole.size_bytes += one.size_bytes
        is_known = is_known and (one.knows_bytes or one.is_over)
    if not is_known:
        whole.size_bytes = 0
    return whole


class _Part:
    """One of those that go on side by side; the bars hear when it begins and when it is over."""

    def __init__(self, bars: "Bars", name: str) -> None:
        self._bars = bars
        self.name = name
        self.amount = _Amount()
        self.under_way: dict[str, _File] = {}

    def plan(self, files: int, size_bytes: int) -> None:
        """What is to be done begins again."""
        self.under_way.clear()
        self.amount = _Amount(files, size_bytes)
        self._bars.note_begun(self)

    def begin(self, asset_id: str, name: str, size_bytes: int | None) -> None:
        """A file starts, or goes on after a connection broke."""
        file = self.under_way.setdefault(asset_id, _File(name, size_bytes, self._bars.clock_s()))
        file.size_bytes = size_bytes

    def advance(self, asset_id: str, size_bytes: int) -> None:
        """So many of its bytes came."""
        self.amount.came_bytes += size_bytes
        self.under_way[asset_id].came_bytes += size_bytes

    def end(self, asset_id: str) -> None:
        """A file is done, or has failed; the last one of all takes the bars away."""
        amount = self.amount
        amount.ended += 1
        file = self.under_way.pop(asset_id, None)
        if file and file.size_bytes and amount.size_bytes:
            # What was here before this run, or will not come after a failure, is not waited for.
            amount.size_bytes -= max(0, file.size_bytes - file.came_bytes)
        if amount.is_over:
            self._bars.note_over()

    def fail(self, path: str, why: str) -> None:
        """Shown until later ones take its place."""
        self._bars.fail(path, why)

    def part(self, name: str) -> "_Part":
        """Another one beside it."""
        return self._bars.part(name)


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
        self.clock_s = clock_s
        self._live: Live | None = None
        self._only = self.part("")  # of work that has no parts
        self._parts: list[_Part] = []
        self._failures: deque[tuple[str, str]] = deque(maxlen=_MOST_FAILURES)
        self._begin_anew()
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
        """A new piece of work: what is drawn begins again."""
        self._only.plan(files, size_bytes)

    def begin(self, asset_id: str, name: str, size_bytes: int | None) -> None:
        """A file starts, or goes on after a connection broke."""
        self._only.begin(asset_id, name, size_bytes)

    def advance(self, asset_id: str, size_bytes: int) -> None:
        """So many of its bytes came."""
        self._only.advance(asset_id, size_bytes)

    def end(self, asset_id: str) -> None:
        """A file is done, or has failed."""
        self._only.end(asset_id)

    def fail(self, path: str, why: str) -> None:
        """A file of whichever part failed; told until later ones take its place."""
        self._failures.append((path, why))

    def part(self, name: str) -> _Part:
        """One that goes on beside others; seen from when it has something to do."""
        return _Part(self, name)

    def note_begun(self, part: _Part) -> None:
        """A part knows what it has to do; when no other is at work, what is drawn begins again."""
        others = [one for one in self._parts if one is not part]
        if all(one.amount.is_over for one in others):
            self._hide()
            self._begin_anew()
            others = []
        self._parts = [*others, part] if part.amount.files else others
        if self._parts and self._live is None:
            # A Live that is started again would wipe the lines above it: each time has its own.
            self._live = Live(
                console=self._console,
                get_renderable=self.drawn,
                refresh_per_second=_DRAWN_PER_S,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()

    def note_over(self) -> None:
        """A part is over; the last one takes the bars away."""
        if all(part.amount.is_over for part in self._parts):
            self._hide()

    def _begin_anew(self) -> None:
        self._files_pace, self._bytes_pace = _Pace(), _Pace()
        self._failures.clear()
        self._parts = []
        self._note(_Amount())

    def _hide(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    # -- what is seen ------------------------------------------------------------------------------

    def drawn(self) -> Group:
        """The bars as they are now."""
        # Copies in one step: the other thread goes on adding and dropping.
        parts, failures = list(self._parts), list(self._failures)
        whole = _sum(part.amount for part in parts)
        self._note(whole)
        table = self._table()
        files = f"{whole.ended} of {whole.files} {'file' if whole.files == 1 else 'files'}"
        table.add_row(Text(files), whole.bar(), Text(self._numbers(whole)))
        rows: list[Table | Text] = [table]
        if len(parts) > 1:
            rows.append(self._each(parts))
        rows += map(self._row, self._long_ones(parts))
        rows += (self._failure(*failure) for failure in failures)
        return Group(*rows)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        table.add_column(no_wrap=True, justify="right")
        return table

    def _each(self, parts: list[_Part]) -> Table:
        """A bar for each part; those that are at work first, where there are too many."""
        shown = sorted(parts, key=lambda part: part.amount.is_over)[:_MOST_PARTS]
        table = self._table()
        for part in sorted(shown, key=parts.index):
            name = Text(f"  {printable(part.name)}", no_wrap=True)
            name.truncate(_WIDEST_PART, overflow="ellipsis")
            amount = part.amount
            files = f"{amount.ended} of {amount.files}"
            table.add_row(name, amount.bar(), Text(f"{files}  {amount.came()}", style="dim"))
        return table

    def _note(self, whole: _Amount) -> None:
        now_s = self.clock_s()
        self._files_pace.note(now_s, whole.ended)
        self._bytes_pace.note(now_s, whole.came_bytes)

    def _numbers(self, whole: _Amount) -> str:
        told = [whole.came(), f"{decimal(int(self._bytes_pace.per_s))}/s"]
        left_s = self._left_s(whole)
        return "  ".join(told if left_s is None else [*told, f"{_duration(left_s)} left"])

    def _left_s(self, whole: _Amount) -> float | None:
        """By bytes where they are known, else by files; None while nothing moves."""
        if whole.knows_bytes:
            left, pace = whole.size_bytes - whole.came_bytes, self._bytes_pace.per_s
        else:
            left, pace = whole.files - whole.ended, self._files_pace.per_s
        return left / pace if pace > 0 else None

    def _long_ones(self, parts: Iterable[_Part]) -> Iterator[_File]:
        files = [file for part in parts for file in list(part.under_way.values())]
        now_s = self.clock_s()
        return islice((f for f in files if now_s - f.begun_s >= _SHOWN_AFTER_S), _MOST_FILES)

    def _row(self, file: _File) -> Text:
        of = f" of {decimal(file.size_bytes)}" if file.size_bytes else ""
        return self._line(file.name, f"{decimal(file.came_bytes)}{of}", "dim")

    def _failure(self, path: str, why: str) -> Text:
        return self._line(path, f"failed: {why}", "red")

    def _line(self, name: str, told: str, style: str) -> Text:
        """A name that gives way, and what is told of it at the edge."""
        width = max(_NARROWEST_NAME, self._console.width - len(told) - 4)
        line = Text(f"  {printable(name)}", no_wrap=True)
        line.truncate(width, overflow="ellipsis", pad=True)
        return line.append(f"  {told}", style=style)


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
