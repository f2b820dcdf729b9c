import io
import re
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest
import structlog
from rich.console import Console

from mirror import logs
from mirror.bars import Bars
from mirror.events import Event, emit
from mirror.progress import Silent, shown

WIDTH = 80


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Screen(io.StringIO):
    """What a terminal is sent."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bars(clock: Clock) -> Iterator[Bars]:
    # Never started as a terminal: nothing is drawn but what a test asks for.
    console = Console(file=io.StringIO(), width=WIDTH, force_terminal=False)
    with Bars(io.StringIO(), console=console, clock_s=clock) as made:
        yield made


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def drawn(bars: Bars, width: int = WIDTH) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(bars.drawn())
    return capture.get().splitlines()


def at_work(bars: Bars, clock: Clock, name: str, size_bytes: int | None = 4_000_000) -> None:
    bars.plan(3, 0)
    bars.begin("a", name, size_bytes)
    clock.now_s += 2
    bars.advance("a", 1_000_000)


# -- the whole -------------------------------------------------------------------------------------


def test_files_bytes_rate_and_time_left_are_on_one_line(bars: Bars, clock: Clock) -> None:
    bars.plan(4, 40_000_000)
    bars.begin("a", "a.jpg", 10_000_000)
    clock.now_s += 5
    bars.advance("a", 10_000_000)
    bars.end("a")
    (line,) = drawn(bars)
    assert re.fullmatch(r"1 of 4 files  \S+ *10\.0 MB of 40\.0 MB  2\.0 MB/s  15 s left *", line), (
        line
    )


def test_without_known_bytes_the_time_left_is_told_by_files(bars: Bars, clock: Clock) -> None:
    bars.plan(4, 0)
    clock.now_s += 60
    bars.end("a")
    (line,) = drawn(bars)
    assert "3 min left" in line
    assert " of 4 files" in line


def test_sizes_that_were_known_too_small_are_not_believed(bars: Bars, clock: Clock) -> None:
    bars.plan(2, 100)
    bars.begin("a", "a.jpg", None)
    clock.now_s += 1
    bars.advance("a", 5000)
    bars.end("a")
    assert "5.0 kB  5.0 kB/s  1 s left" in drawn(bars)[0]


def test_nothing_is_promised_while_nothing_moves(bars: Bars, clock: Clock) -> None:
    bars.plan(2, 100)
    clock.now_s += 10
    assert "left" not in drawn(bars)[0]


def test_a_stalled_run_stops_promising_within_half_a_minute(bars: Bars, clock: Clock) -> None:
    bars.plan(2, 100)
    bars.begin("a", "a.jpg", 50)
    clock.now_s += 1
    bars.advance("a", 50)
    bars.end("a")
    assert "left" in drawn(bars)[0]
    for _ in range(40):
        clock.now_s += 1
        drawn(bars)
    assert "left" not in drawn(bars)[0]


def test_bytes_of_a_failed_file_are_not_waited_for(bars: Bars) -> None:
    bars.plan(2, 1000)
    bars.begin("a", "a.jpg", 600)
    bars.end("a")
    assert "of 400 bytes" in drawn(bars)[0]


def test_a_file_that_goes_on_after_a_broken_connection_is_counted_once(
    bars: Bars, clock: Clock
) -> None:
    at_work(bars, clock, "a.mov")
    bars.begin("a", "a.mov", 4_000_000)
    bars.advance("a", 3_000_000)
    assert "4.0 MB of 4.0 MB" in drawn(bars)[1]
    bars.end("a")
    assert drawn(bars)[0].startswith("1 of 3 files")


def test_long_waits_are_told_in_hours(bars: Bars, clock: Clock) -> None:
    bars.plan(1000, 0)
    clock.now_s += 10
    bars.end("a")
    assert "2 h 46 min left" in drawn(bars)[0]


def test_nothing_to_do_is_no_division_by_zero(bars: Bars) -> None:
    bars.plan(0, 0)
    assert drawn(bars)[0].startswith("0 of 0 files")


# -- files -----------------------------------------------------------------------------------------


def test_only_what_takes_long_has_a_line_and_at_most_four_do(bars: Bars, clock: Clock) -> None:
    bars.plan(9, 0)
    for number in range(6):
        bars.begin(f"{number}", f"long_{number}.mov", None)
    clock.now_s += 2
    bars.begin("short", "short.jpg", 10)
    names = [line.split()[0] for line in drawn(bars)[1:]]
    assert names == ["long_0.mov", "long_1.mov", "long_2.mov", "long_3.mov"]


def test_a_file_that_ended_is_not_shown_any_more(bars: Bars, clock: Clock) -> None:
    at_work(bars, clock, "a.mov")
    assert len(drawn(bars)) == 2
    bars.end("a")
    assert len(drawn(bars)) == 1


def test_a_new_part_shows_nothing_of_the_one_before(bars: Bars, clock: Clock) -> None:
    at_work(bars, clock, "a.mov")
    bars.plan(7, 0)
    (line,) = drawn(bars)
    assert line.startswith("0 of 7 files")


@pytest.mark.parametrize(
    "name",
    [
        "[bold red]not markup[/] :smile:",
        "\x1b[2J\x1b]0;title\x07.jpg",
        "two\nlines\r.jpg",
        "\u202egpj.exe",
        "\udcff\udcfe.jpg",
        "写真" * 100,
        "x" * 1000,
        "",
        "🏖️ 👨‍👩‍👧 beach.jpg",
    ],
)
@pytest.mark.parametrize("width", [20, 80])
def test_no_name_breaks_the_line_or_moves_the_cursor(
    bars: Bars, clock: Clock, name: str, width: int
) -> None:
    at_work(bars, clock, name)
    lines = drawn(bars, width)
    text = "\n".join(lines)
    assert len(lines) == 2
    assert not re.search(r"[^\S \n]|[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    if name.startswith("[bold"):
        assert "[bold" in text


def test_a_size_that_nobody_knows_is_left_out(bars: Bars, clock: Clock) -> None:
    at_work(bars, clock, "a.mov", size_bytes=None)
    assert drawn(bars)[1].split() == ["a.mov", "1.0", "MB"]


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_every_line_fits_the_screen(clock: Clock, width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    with Bars(io.StringIO(), console=console, clock_s=clock) as bars:
        bars.plan(123_456, 98_765_432_100)
        bars.begin("a", "写" * 300, 54_321_000_000)
        clock.now_s += 3
        bars.advance("a", 12_345_678_900)
        lines = drawn(bars, width)
    assert len(lines) == 2
    assert all(len(line) <= width for line in lines)


# -- several at once -------------------------------------------------------------------------------


def test_mirrors_side_by_side_have_a_bar_each_and_the_whole_is_their_sum(
    bars: Bars, clock: Clock
) -> None:
    alice, bob = bars.part("alice"), bars.part("bob")
    alice.plan(2, 4_000_000)
    alice.begin("a", "a.jpg", 2_000_000)
    clock.now_s += 0.5
    alice.advance("a", 2_000_000)
    alice.end("a")
    bob.plan(3, 6_000_000)
    clock.now_s += 0.5
    whole, first, second = drawn(bars)
    assert whole.startswith("1 of 5 files")
    assert "2.0 MB of 10.0 MB  2.0 MB/s  4 s left" in whole
    assert re.fullmatch(r"  alice +\S+ *1 of 2  2\.0 MB of 4\.0 MB *", first)
    assert re.fullmatch(r"  bob +0 of 3  0 bytes of 6\.0 MB *", second)


def test_a_mirror_that_is_done_stays_in_the_whole_until_all_are(bars: Bars) -> None:
    alice, bob = bars.part("alice"), bars.part("bob")
    alice.plan(1, 0)
    bob.plan(2, 0)
    alice.end("a")
    assert drawn(bars)[0].startswith("1 of 3 files")
    bob.end("b")
    bob.end("c")
    bars.part("carol").plan(7, 0)
    (line,) = drawn(bars)
    assert line.startswith("0 of 7 files")


def test_of_many_mirrors_those_at_work_are_shown(bars: Bars) -> None:
    parts = [bars.part(f"mirror-{number}") for number in range(10)]
    for part in parts:
        part.plan(1, 0)
    for part in parts[:4]:
        part.end("a")
    names = [line.split()[0] for line in drawn(bars)[1:]]
    assert names == [f"mirror-{number}" for number in range(4, 10)]


def test_a_mirror_that_begins_anew_is_counted_once(bars: Bars) -> None:
    alice, bob = bars.part("alice"), bars.part("bob")
    alice.plan(5, 0)
    bob.plan(2, 0)
    alice.end("a")
    alice.plan(4, 0)
    assert drawn(bars)[0].startswith("0 of 6 files")


def test_the_last_failures_are_told_below(bars: Bars) -> None:
    alice = bars.part("alice")
    alice.plan(9, 0)
    for number in range(3):
        alice.fail(f"2024/IMG_{number}\n\x1b.jpg", "checksum-mismatch")
    lines = drawn(bars)[1:]
    assert len(lines) == 2
    assert re.fullmatch(r"  2024/IMG_1\\n\\x1b\.jpg +failed: checksum-mismatch *", lines[0])
    assert max(map(len, drawn(bars))) <= WIDTH


# -- the terminal ----------------------------------------------------------------------------------


def test_no_terminal_means_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    stderr = io.StringIO()
    with shown(stderr, quiet=False) as progress:
        assert isinstance(progress, Silent)
        progress.plan(1, 1)
        progress.begin("a", "a.jpg", 1)
        progress.advance("a", 1)
        progress.end("a")
    assert stderr.getvalue() == ""


@pytest.mark.parametrize(("quiet", "term"), [(True, "xterm"), (False, "dumb"), (False, "")])
def test_quiet_and_terminals_that_cannot_draw_mean_silence(
    monkeypatch: pytest.MonkeyPatch, *, quiet: bool, term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    with shown(Screen(), quiet=quiet) as progress:
        assert isinstance(progress, Silent)


def test_log_lines_appear_whole_above_the_bars_which_leave_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    screen = Screen()
    logs.configure(json_lines=False, level="info", stream=screen)
    path = "2024/05/01/" + "long [red]name " * 10 + ".jpg"
    with shown(screen, quiet=False) as progress:
        progress.plan(2, 0)
        progress.begin("a", "a.jpg", 10)
        emit("info", Event.ASSET_DOWNLOADED, path=path)
        progress.end("a")
        progress.end("b")
        hidden_at = len(screen.getvalue())
    emit("info", Event.ASSET_FORGOTTEN, path="later.jpg")
    sent = screen.getvalue()
    assert f"asset.downloaded: {path}\n" in sent
    assert "0 of 2 files" in sent
    assert sent[hidden_at:] == "asset.forgotten: later.jpg\n"
    assert sent[:hidden_at].count("\x1b[?25l") == sent[:hidden_at].count("\x1b[?25h")
    assert left_on(sent) == [
        *wrapped(f"asset.downloaded: {path}", 60),
        "asset.forgotten: later.jpg",
    ]


def test_an_interrupted_run_leaves_a_clean_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    screen = Screen()
    logs.configure(json_lines=False, level="info", stream=screen)
    with suppress(KeyboardInterrupt), shown(screen, quiet=False) as progress:
        progress.plan(2, 0)
        progress.begin("a", "a.jpg", 10)
        emit("warning", Event.NAME_VANISHED, reason="so that the bars are drawn")
        raise KeyboardInterrupt
    assert "0 of 2 files" in screen.getvalue()
    assert left_on(screen.getvalue()) == ["warning: name.vanished: so that the bars are drawn"]
    assert screen.getvalue().count("\x1b[?25h") == 1


def test_stdout_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stdout = sys.stdout
    with shown(Screen(), quiet=False) as progress:
        progress.plan(2, 0)
        assert sys.stdout is stdout


def wrapped(text: str, width: int) -> list[str]:
    return [text[start : start + width] for start in range(0, len(text), width)]


def left_on(sent: str) -> list[str]:
    """What a terminal of 60 columns shows in the end: as much of one as the bars use."""
    rows: list[str] = [""]
    row = column = 0
    for match in re.finditer(r"\x1b\[(\??\d*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n])", sent):
        number, letter, carriage, newline, character = match.groups()
        if letter == "A":
            row -= int(number or 1)
        elif letter == "K":
            rows[row] = ""
        elif carriage:
            column = 0
        elif newline:
            row, column = row + 1, 0
        elif character:
            if column == 60:
                row, column = row + 1, 0
            rows.extend([""] * (row + 1 - len(rows)))
            rows[row] = rows[row][:column].ljust(column) + character + rows[row][column + 1 :]
            column += 1
        rows.extend([""] * (row + 1 - len(rows)))
    return [text.rstrip() for text in rows if text.strip()]
