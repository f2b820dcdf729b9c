"""status and report: is it still working?"""

import argparse
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mirror.cli.arguments import Commands, Help, add_common, add_selection, command
from mirror.cli.shared import choices_of, print_lines, settings_of
from mirror.errors import ExitCode, UsageError, worst

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirror.status import Status
    from mirror.status_text import Asked

_FRESH: Final = timedelta(days=3)
_STDOUT: Final = "-"
_AGES_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def add(commands: Commands) -> None:
    """The commands of this module."""
    parser = command(
        commands,
        "status",
        _status,
        Help(
            "tell how old the last success of each mirror is, and what lies there",
            "mirror status family --max-age 36h",
            "Asks no server, changes nothing, and may be used while a run is under way.",
        ),
    )
    add_selection(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--max-age",
        type=age,
        metavar="AGE",
        help='exit with 1 when a last success is older, as "36h" or "2d", or there is none',
    )
    add_common(parser)
    _add_report(commands)


def _add_report(commands: Commands) -> None:
    parser = command(
        commands,
        "report",
        _report,
        Help(
            "write a page for the family: what is backed up, how fresh, what is missing and why",
            "mirror report family --html /srv/www/photos.html",
            "Asks no server, and may be used while a run is under way.",
        ),
    )
    add_selection(parser, "PROFILE")
    parser.add_argument(
        "--html", metavar="FILE", required=True, help="where the page goes; - is stdout"
    )
    parser.add_argument(
        "--max-age",
        type=age,
        default=_FRESH,
        metavar="AGE",
        help='how old a success, and the page itself, may be, as "36h"; default: 3d',
    )
    add_common(parser)


def age(text: str) -> timedelta:
    """A time span, such as 90m, 36h or 2d.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if not found:
        raise argparse.ArgumentTypeError("an age is a number and a unit: 90m, 36h, 2d, 1w")
    return timedelta(seconds=int(found[1]) * _AGES_S[found[2]])


def _status(args: argparse.Namespace) -> ExitCode:
    from mirror.status import Memory, exit_code, look
    from mirror.status_text import Asked, status_json, status_lines

    args.all = args.profile is None
    choices, code = choices_of(args, settings_of(args))
    memory = Memory.of_user()
    asked = Asked(datetime.now(UTC), args.max_age)
    statuses = [
        status
        for choice in choices
        for status in look(choice.profile, choice.mirrors, memory)
    ]  # fmt: skip
    if args.json:
        print(json.dumps(status_json(statuses, asked), indent=1))
    elif sys.stdout.isatty():
        _show(statuses, asked)
    else:
        print_lines(line for status in statuses for line in status_lines(status, asked))
    return worst([code, exit_code(statuses, args.max_age, asked.now)])


def _show(statuses: "Sequence[Status]", asked: "Asked") -> None:
    from rich.console import Console

    from mirror.status_text import status_table, table_troubles

    console = Console(highlight=False)
    console.print(status_table(statuses, asked))
    for line in table_troubles(statuses, asked):
        console.print(line, markup=False)


def _report(args: argparse.Namespace) -> ExitCode:
    from mirror import choose
    from mirror.page import headline, page
    from mirror.page.words import Asked
    from mirror.status import Memory, look

    chosen = choose.chosen(args.profile, args.mirrors, settings_of(args))
    asked = Asked(datetime.now(UTC), args.max_age)
    found = list(look(chosen.profile, chosen.mirrors, Memory.of_user(), counts_months=True))
    html = page(chosen.profile, found, asked)
    if args.html == _STDOUT:
        print(html, end="")
        return ExitCode.OK
    _write(Path(args.html), html)
    print(f"{args.html}: {headline(chosen.profile, found, asked)}")
    return ExitCode.OK


def _write(path: Path, html: str) -> None:
    from mirror.whole import replace_file

    try:
        replace_file(path, html.encode(), mode=0o644)  # others are to read it
    except OSError as error:
        raise UsageError(
            f"{path}: the page cannot be written",
            why=error.strerror or str(error),
            hint="the folder must exist, and this user must be able to write to it",
        ) from error
