"""What arguments look like, and those that several commands take."""

import argparse
import difflib
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeAlias

from rich_argparse import RawDescriptionRichHelpFormatter

from mirror.errors import ExitCode

if TYPE_CHECKING:
    from mirror.core.model import Shard


class Parser(argparse.ArgumentParser):
    """Mistakes get a "did you mean"."""

    def error(self, message: str) -> NoReturn:
        """What was wrong with the words, and the exit code of a wrong use."""
        found = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if found:
            known = re.findall(r"[\w-]+", found[2])
            near = difflib.get_close_matches(found[1], known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            message = f"there is no command {found[1]!r}{meant}"
        # So is a value that begins with a dash told.
        if found := re.search(r"argument (--[\w-]+).*: expected one argument", message):
            option = self._option_string_actions[found[1]]
            wanted = option.metavar or f"one of {', '.join(option.choices or ())}"
            message = f"argument {found[1]}: expected {wanted}: {option.help}".replace("%%", "%")
        self.exit(ExitCode.USAGE, f"usage: {message}\nhint: see `{self.prog} --help`\n")


class Version(argparse.Action):
    """Prints it and ends; argparse's own has rich lay it out, most of what such a start costs."""

    def __init__(self, option_strings: Sequence[str], dest: str, version: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")
        self._version = version

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """What argparse calls."""
        print(self._version)
        parser.exit()


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 (it has no other name)


class Help(NamedTuple):
    """What a command says of itself."""

    what: str
    example: str
    more: str = ""


def command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], ExitCode], told: Help
) -> Parser:
    """A command: `run` is given the arguments."""
    parser = commands.add_parser(
        name,
        help=told.what,
        description=f"{told.what[0].upper()}{told.what[1:]}. {told.more}".strip(),
        epilog=f"example:\n  {told.example}",
        formatter_class=RawDescriptionRichHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_selection(parser: Parser, profile: str = "[PROFILE]") -> None:
    """A profile, and the mirrors of it."""
    nargs = "?" if profile.startswith("[") else None
    parser.add_argument("profile", metavar="PROFILE", nargs=nargs, help="a name, or a path")
    parser.add_argument("mirrors", metavar="MIRROR", nargs="*", help="default: all of them")
    add_lookup(parser)


def add_lookup(parser: Parser) -> None:
    """Where profiles are."""
    parser.add_argument(
        "--profiles", type=Path, metavar="DIR", help="where profiles are looked up first"
    )


def add_plan_output(parser: Parser) -> None:
    """How much of a plan is shown, and in which form."""
    group = parser.add_argument_group("how a plan is shown")
    group.add_argument("--full", action="store_true", help="a line for every action")
    group.add_argument("--json", action="store_true", help="as JSON")


def add_limits(parser: Parser) -> None:
    """Knobs that stand above the profile's."""
    group = parser.add_argument_group("above what the profile says")
    group.add_argument("--transfers", metavar="N", help="most downloads at once")
    group.add_argument("--min-free", metavar="SIZE", help='free space that is kept, as "1GiB"')
    add_run_limits(group)


def add_run_limits(group: "argparse._ArgumentGroup") -> None:
    """How fast, how much and how long."""
    group.add_argument(
        "--bandwidth", metavar="RATE", help='how fast, as "10M" or "08:00,2M 23:00,off"'
    )
    group.add_argument("--max-transfer", metavar="SIZE", help='stop after so much, as "50GiB"')
    group.add_argument("--max-duration", metavar="TIME", help='stop after so long, as "4h"')


def add_common(parser: Parser) -> None:
    """What every command takes."""
    group = parser.add_argument_group("common options")
    group.add_argument("--log-format", choices=["auto", "json", "text"], help="default: auto")
    group.add_argument("--log-file", metavar="FILE", help="append JSON lines to a file as well")
    group.add_argument("-v", "--verbose", action="count", default=0, help="say more")
    group.add_argument("-q", "--quiet", action="store_true", help="say only what is wrong")
    group.add_argument(
        "--allow-unknown-server",
        action="store_true",
        help="go on with a major version that is not known",
    )


def add_wait(parser: Parser) -> None:
    """How long another run is waited for."""
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="wait so long for another run that holds the destination; default: 0",
    )


def add_shard(parser: Parser) -> None:
    """Which part of the mirrors this run is about."""
    parser.add_argument(
        "--shard",
        type=_shard,
        metavar="K/N",
        help="only the Kth of N parts of remote destinations, with K from 1 to N; removes nothing",
    )


def add_relist(parser: Parser) -> None:
    """Whether to trust what is remembered."""
    parser.add_argument(
        "--relist",
        action="store_true",
        help="list the accounts in full, whatever is remembered of them",
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text!r}")
    return seconds


def _shard(text: str) -> "Shard":
    from mirror.core.shard import parse_shard

    try:
        return parse_shard(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
