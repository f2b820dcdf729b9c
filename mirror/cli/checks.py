"""check and verify."""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mirror.cli.arguments import Commands, Help, add_common, add_selection, add_wait, command
from mirror.cli.shared import (
    choices_of,
    complain_of,
    print_lines,
    progress_of,
    session_of,
    settings_of,
    stopped_of,
)
from mirror.errors import ExitCode, UsageError, worst

if TYPE_CHECKING:
    from fractions import Fraction

    from mirror.check import Check
    from mirror.core.check import Checked

_STDOUT = "-"
_COMBINED = "combined"
_LISTS = ("match", "differ", "missing_on_dst", "missing_on_src", "error")


def add(commands: Commands) -> None:
    """The commands of this module."""
    _add_check(commands)
    _add_verify(commands)


def _verify(args: argparse.Namespace) -> ExitCode:
    from mirror import choose, commands, findings
    from mirror.core.guard import Allowed
    from mirror.core.verify import Verification
    from mirror.verify import Asked

    choice = choose.chosen(args.profile, args.mirrors, settings_of(args))
    asked = Asked(
        share=args.sample,
        budget_s=args.budget,
        repair=args.repair,
        prove=args.prove,
        allowed=Allowed(removed=args.allow_removed),
        wait_s=args.wait,
    )
    reports: list[Verification] = []
    with progress_of(args) as progress:
        session = session_of(args, progress, dry=False)
        stopped = stopped_of(commands.verify(choice, session, asked, reports))
    if args.json:
        print(json.dumps([findings.verify_json(report) for report in reports], indent=1))
    elif not args.quiet:
        print_lines(line for report in reports for line in findings.verify_text(report))
    complain_of(reports)
    if stopped is not None:
        raise stopped
    return worst(report.exit_code for report in reports)


# -- what they take


def _add_verify(commands: Commands) -> None:
    parser = command(
        commands,
        "verify",
        _verify,
        Help(
            "read the files again and find what is damaged",
            "mirror verify family --sample 5% --repair",
            "Those that were verified the longest ago come first. Asks no server but for --repair"
            " and --prove.",
        ),
    )
    add_selection(parser, profile="PROFILE")
    parser.add_argument(
        "--sample",
        type=_share,
        default="100%",
        metavar="PERCENT",
        help='so many of the files, as "5%%"; default: all',
    )
    parser.add_argument(
        "--budget", type=_duration_s, metavar="TIME", help='stop after so long, as "10m" or "1h30m"'
    )
    parser.add_argument(
        "--repair", action="store_true", help="fetch again what is damaged; its bytes are kept"
    )
    parser.add_argument(
        "--prove",
        action="store_true",
        help="compare files whose SHA-1 is not known with the server's bytes",
    )
    parser.add_argument(
        "--allow-removed",
        type=int,
        default=0,
        metavar="N",
        help="with --prove: replace up to N files, whatever max_removed says",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_wait(parser)
    add_common(parser)


def _share(text: str) -> "Fraction":
    from fractions import Fraction

    number = text.removesuffix("%")
    try:
        share = Fraction(number) / 100 if number != text else Fraction(0)
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"not a percentage above 0% and up to 100%: {text!r}")
    return share


def _duration_s(text: str) -> float:
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text)
    hours, minutes, seconds = (float(part or 0) for part in found.groups()) if found else (0, 0, 0)
    duration_s = hours * 3600 + minutes * 60 + seconds
    if not duration_s:
        raise argparse.ArgumentTypeError(f'not a time such as "90s", "10m" or "1h30m": {text!r}')
    return duration_s


def _add_check(commands: Commands) -> None:
    parser = command(
        commands,
        "check",
        _check,
        Help(
            "compare server, index and folder, and change nothing",
            "mirror check family --combined -",
            "Says what rclone check would, with the server as its source.",
        ),
    )
    add_selection(parser, profile="PROFILE")
    parser.set_defaults(all=False)
    parser.add_argument(
        "--checksum", action="store_true", help="hash every file, whatever its size and time say"
    )
    parser.add_argument(
        "--one-way", action="store_true", help="do not look for files that only lie here"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    lists = parser.add_argument_group(
        "lists of paths, one a line, into a file or with - to stdout; of several destinations with"
        " the destination in front"
    )
    lists.add_argument(
        "--combined", metavar="FILE", help="every path with =, *, +, - or ! in front, as rclone's"
    )
    lists.add_argument("--match", metavar="FILE", help="=: the same on both sides")
    lists.add_argument("--differ", metavar="FILE", help="*: other bytes here than on the server")
    lists.add_argument("--missing-on-dst", metavar="FILE", help="+: on the server, not here")
    lists.add_argument("--missing-on-src", metavar="FILE", help="-: here, not on the server")
    lists.add_argument("--error", metavar="FILE", help="!: could not be compared")
    add_wait(parser)
    add_common(parser)


def _check(args: argparse.Namespace) -> ExitCode:
    from mirror import commands, findings
    from mirror.check import Check

    files = {name: path for name in (_COMBINED, *_LISTS) if (path := getattr(args, name))}
    lists_on_stdout = _STDOUT in files.values()
    if args.json and lists_on_stdout:
        raise UsageError("--json and a list cannot both go to stdout", hint="write one to a file")
    choices, _ = choices_of(args, settings_of(args))
    several = sum(len(mirror.destinations) for each in choices for mirror in each.mirrors) > 1
    with _lists(files, with_destination=several) as lists, progress_of(args) as progress:
        session = session_of(args, progress, dry=True)
        session.make = partial(Check, tell=lists.tell, one_way=args.one_way)
        stopped = stopped_of(commands.sync(choices, session))
    checks = [run for run in session.runs if isinstance(run, Check)]
    if args.json:
        print(json.dumps([findings.check_json(check) for check in checks], indent=1))
    elif not args.quiet:
        lines = (line for check in checks for line in findings.check_text(check))
        print_lines(lines, file=sys.stderr if lists_on_stdout else sys.stdout)
    complain_of(session.reports)
    if stopped is not None:
        raise stopped
    return worst(report.exit_code for report in session.reports)


class _Lists:
    """Paths by their mark, into files: their own bytes, as rclone writes them."""

    def __init__(self, files: Mapping[str, BinaryIO], *, with_destination: bool) -> None:
        self._files = files
        self._with_destination = with_destination
        self.error: OSError | None = None  # a list that cannot be written is no destination's fault

    def tell(self, check: "Check", checked: "Checked") -> None:
        path = checked.path
        if self._with_destination:
            path = f"{check.destination.path}/{path}"
        self._write(_COMBINED, f"{checked.mark.value} {path}")
        self._write(checked.mark.word, path)

    def _write(self, name: str, line: str) -> None:
        from mirror.logs import printable

        file = self._files.get(name)
        if file is None or self.error is not None:
            return
        try:
            told = printable(line) if file.isatty() else line
            file.write(told.encode("utf-8", "surrogateescape") + b"\n")
        except OSError as error:
            self.error = error


@contextmanager
def _lists(files: Mapping[str, str], *, with_destination: bool) -> Iterator[_Lists]:
    """The files, opened before anything is asked, and written to their end."""
    with ExitStack() as stack:
        opened: dict[str, BinaryIO] = {}
        by_path: dict[str, BinaryIO] = {}
        for name, path in files.items():
            if path not in by_path:
                by_path[path] = _opened(path, stack)
            opened[name] = by_path[path]
        lists = _Lists(opened, with_destination=with_destination)
        yield lists
        try:
            if lists.error is not None:
                raise lists.error
            for file in by_path.values():
                file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UsageError("a list cannot be written", why=str(error)) from error


def _opened(path: str, stack: ExitStack) -> BinaryIO:
    if path == _STDOUT:
        return sys.stdout.buffer
    try:
        return stack.enter_context(Path(path).open("wb"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written", why=error.strerror or str(error)) from error
