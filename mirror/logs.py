"""Where log lines go, and in which form: JSON lines unless a person is looking.

structlog is loaded with the first line: that costs as much as a third of a start, and many commands
say nothing.
"""

import io
import json
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

from mirror.errors import UsageError

_ENCODER: Final = json.JSONEncoder(default=str)
# A person reads these again, and better, when the command ends.
_SUMMARISED: Final = frozenset(
    {
        *("mirror.end", "asset.failed", "plan.held", "listing.incomplete"),
        *("asset.damaged", "asset.drifted", "asset.missing", "asset.unreadable"),  # by `verify`
    }
)
_MILESTONES: Final = frozenset({"run.start", "run.end", "mirror.start", "mirror.end"})
_TAIL_LINES: Final = 100
_LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Lines(Protocol):
    """What takes finished lines, as structlog hands them over."""

    def msg(self, line: str) -> None:
        """Take one."""


class _Lines:
    """What writes finished lines; where nobody can be told any more, the work goes on."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._out.write(line + "\n")
            self._out.flush()

    debug = info = warning = error = msg


@dataclass(slots=True)
class _Form:
    json_lines: bool = False
    level: str = "info"  # of the lines that stderr gets
    summary: bool = False
    file: "LogFile | None" = None
    lines: Lines | None = None  # None: nothing was configured
    is_ready: bool = True  # as structlog has it
    tail: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))


_form = _Form()


def tail(profile: str) -> list[str]:
    """The last lines that matter to whoever gets an alarm: of this profile, or of the whole run.

    Kept are warnings, errors, and how runs and mirrors began and ended, not every file.
    """
    return [line for of, line in _form.tail if of in ("", profile)]


def are_json() -> bool:
    """Whether stderr carries JSON lines, so that nothing else may be written to it."""
    return _form.json_lines


def tells(level: str) -> bool:
    """Whether anybody is told lines of a level; thousands of files may be told to nobody."""
    return _form.lines is None or _LEVELS[level] >= _lowest()


def _lowest() -> int:
    lowest = _LEVELS[_form.level]
    return lowest if _form.file is None else min(lowest, _LEVELS["info"])


class LogFile:
    """A file that log lines are appended to; opened anew when logrotate has moved it away."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            UsageError: it cannot be written.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{path}: cannot write the log there", why=error.strerror or str(error)
            ) from error

    def write(self, line: str) -> None:
        """Append one line; a full disk costs the line, not the run."""
        with suppress(OSError):
            if self._file.closed or not self._is_in_place():
                self._file.close()
                self._file = self._path.open("a", encoding="utf-8")
            self._file.write(line + "\n")
            self._file.flush()

    def _is_in_place(self) -> bool:
        """Whether the path still leads to this file: logrotate may have made a new one there."""
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let go of it."""
        with suppress(OSError):
            self._file.close()


def configure(
    *,
    json_lines: bool,
    level: str,
    log_file: Path | None = None,
    stream: TextIO | None = None,
    summary: bool = False,
) -> None:
    """Send lines of `level` and above to `stream` (stderr).

    A `log_file` gets JSON lines as well, from "info" on, whatever a person wants to see. With a
    `summary` to come, text leaves out what that will tell.

    Raises:
        UsageError: the file cannot be written.
    """
    if _form.file is not None:
        _form.file.close()
    _form.file = None
    _form.json_lines, _form.level, _form.summary = json_lines, level, summary
    _form.lines = _Lines(stream or sys.stderr)
    _form.is_ready = False
    _form.file = LogFile(log_file) if log_file else None


def logger() -> Any:  # noqa: ANN401 (structlog's)
    """What lines are said to: a method for each level."""
    structlog = _structlog()
    if not _form.is_ready:
        _set_up()
        _form.is_ready = True
    return structlog.get_logger()


def bind(**fields: str) -> None:
    """Every later line of this task says so, too."""
    _structlog().contextvars.bind_contextvars(**fields)


@contextmanager
def bound(**fields: str) -> Iterator[None]:
    """Every line of this task, while the block runs."""
    with _structlog().contextvars.bound_contextvars(**fields):
        yield


def _structlog() -> Any:  # noqa: ANN401 (a module)
    """Structlog without rich, which it loads for tracebacks that are never printed by it.

    That is a twentieth of the start of a command that logs.
    """
    if not {"rich", "structlog"} & sys.modules.keys():
        sys.modules["rich"] = None  # type: ignore[assignment]  # as if it were not there
        try:
            import structlog  # noqa: PLC0415
        finally:
            del sys.modules["rich"]
    import structlog  # noqa: PLC0415

    return structlog


@contextmanager
def redirected(lines: Lines) -> Iterator[None]:
    """Lines for stderr go elsewhere meanwhile, in the form that they had."""
    structlog = _structlog()
    logger()
    before = structlog.get_config()["logger_factory"]
    structlog.configure(logger_factory=lambda *_: lines)
    try:
        yield
    finally:
        structlog.configure(logger_factory=before)


def _set_up() -> None:
    structlog = _structlog()
    lines = _form.lines

    def render(_: object, __: str, event: MutableMapping[str, Any]) -> str:
        line = _ENCODER.encode(event)
        if _form.file is not None:
            _form.file.write(line)
        _keep(event)
        told = _form.summary and not _form.json_lines and event["event"] in _SUMMARISED
        if told or _LEVELS[event["level"]] < _LEVELS[_form.level]:
            raise structlog.DropEvent
        return line if _form.json_lines else _sentence(event)

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            _in_order,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_lowest()),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )


def _keep(event: Mapping[str, Any]) -> None:
    if _LEVELS[event["level"]] < _LEVELS["warning"] and event["event"] not in _MILESTONES:
        return
    whose = "".join(f" {event[name]}" for name in ("mirror", "destination") if name in event)
    code = f" exit code {event['exit_code']}" if "exit_code" in event else ""
    line = f"{event['ts']} {event['level']}{printable(whose)} {_words(event)}{code}"
    _form.tail.append((str(event.get("profile", "")), line))


def _in_order(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """When, how grave and what first, for whoever reads the raw lines."""
    first = {name: event.pop(name) for name in ("ts", "level", "event", "v")}
    return {**first, **event}


def _sentence(event: Mapping[str, Any]) -> str:
    """A line for a person."""
    sign = {"warning": "warning: ", "error": "error: "}.get(str(event["level"]), "")
    return f"{sign}{_words(event)}"


def _words(event: Mapping[str, Any]) -> str:
    """The name of an event, and what is said of it: the path first."""
    known = ("path", "from_path", "reason", "error.message", "error.hint", "way_through")
    told = [printable(str(event[name])) for name in known if event.get(name)]
    if "wait_s" in event:
        told.append(f"again in {event['wait_s']} s")
    return f"{event['event']}: {' | '.join(told)}" if told else str(event["event"])


def printable(text: str) -> str:
    """The text without characters that would move a terminal's cursor or hide what follows."""
    out = io.StringIO()
    for character in text:
        out.write(character if character.isprintable() else repr(character)[1:-1])
    return out.getvalue()
