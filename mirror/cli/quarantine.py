"""quarantine list, restore and purge."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich_argparse import RawDescriptionRichHelpFormatter

from mirror.cli.arguments import (
    Commands,
    Help,
    Parser,
    add_common,
    add_lookup,
    add_selection,
    add_wait,
    command,
)
from mirror.cli.shared import complain, print_lines, run, settings_of
from mirror.errors import ExitCode, MirrorError, UsageError, worst

if TYPE_CHECKING:
    from mirror.shelf import Keeper, Shelf, Wanted


def add(commands: Commands) -> None:
    """The commands of this module."""
    parser = commands.add_parser(
        "quarantine",
        help="list, restore and purge what was set aside",
        description="List, restore and purge what was set aside. No server is asked.",
        epilog="example:\n  mirror quarantine list family",
        formatter_class=RawDescriptionRichHelpFormatter,
    )
    actions = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, prog=parser.prog
    )
    _add_list(actions)
    _add_restore(actions)
    _add_purge(actions)


def _list(args: argparse.Namespace) -> ExitCode:
    from mirror import findings

    shelves = run(_keeper(args).listed())
    if args.json:
        print(json.dumps([findings.shelf_json(shelf) for shelf in shelves], indent=1))
    else:
        print_lines(line for shelf in shelves for line in findings.shelf_text(shelf))
    return _said(shelves)


def _purge(args: argparse.Namespace) -> ExitCode:
    days = None if args.all else args.older_than
    shelves = run(_keeper(args).purged(days))
    if not args.quiet:
        print_lines(
            f"{shelf.mirror} -> {shelf.destination.path}: {shelf.purged} left quarantine for good,"
            f" {len(shelf.items) - shelf.purged} stay"
            for shelf in shelves
            if shelf.error is None
        )
    return _said(shelves)


def _said(shelves: "list[Shelf]") -> ExitCode:
    errors = [shelf.error for shelf in shelves if shelf.error is not None]
    for error in errors:
        complain(error)
    return worst(error.exit_code for error in errors)


def _restore(args: argparse.Namespace) -> ExitCode:
    from mirror import findings
    from mirror.quarantine import Restored

    wanted, to = _wanted(args), args.to and args.to.expanduser().absolute()
    results: list[Restored] = []
    stopped: MirrorError | None = None
    try:
        run(_keeper(args).restore(wanted, to, results))
    except MirrorError as error:
        stopped = error  # what was done by then is told first
    print_lines(findings.restored_text(each) for each in results if each.error is None)
    failed = [each.error for each in results if each.error is not None]
    for each in failed:
        complain(each)
    if stopped is not None:
        raise stopped
    return worst(each.exit_code for each in failed)


def _wanted(args: argparse.Namespace) -> "Wanted":
    from mirror.shelf import Wanted

    if sum((bool(args.paths), args.run_id is not None, args.all)) != 1:
        raise UsageError(
            "say what is to be restored", hint="name files, or pass --run ID or --all: one of them"
        )
    return Wanted(paths=args.paths, run_id=args.run_id, everything=args.all)


def _keeper(args: argparse.Namespace) -> "Keeper":
    from mirror import choose
    from mirror.destinations.identity import Known
    from mirror.settings import state_directory
    from mirror.shelf import keeper

    choice = choose.chosen(args.profile, args.mirrors, settings_of(args))
    return keeper(choice, Known(state_directory()), args.wait)


# -- what they take


def _add_list(actions: Commands) -> None:
    parser = command(
        actions,
        "list",
        _list,
        Help("show what waits, why, since when and how long", "mirror quarantine list family"),
    )
    add_selection(parser, profile="PROFILE")
    parser.add_argument("--json", action="store_true", help="as JSON")
    _add_rest(parser)


def _add_restore(actions: Commands) -> None:
    parser = command(
        actions,
        "restore",
        _restore,
        Help(
            "give files back",
            "mirror quarantine restore family 2024/05/01/IMG_0042.jpg",
            "Each gets the path it had, or one beside it where something lies there by now. It is"
            " yours then: `sync` leaves it alone, or adopts it if it is a photo that it wants.",
        ),
    )
    parser.add_argument("profile", metavar="PROFILE", help="a name, or a path")
    parser.add_argument(
        "paths", metavar="PATH", nargs="*", help="the path it had, or the one in quarantine"
    )
    parser.add_argument("--run", dest="run_id", metavar="ID", help="all that one run put there")
    parser.add_argument("--all", action="store_true", help="everything")
    parser.add_argument(
        "--mirror",
        dest="mirrors",
        action="append",
        default=[],
        metavar="NAME",
        help="of this mirror; may be repeated; default: of all",
    )
    parser.add_argument("--to", type=Path, metavar="DIR", help="to this folder instead")
    add_lookup(parser)
    _add_rest(parser)


def _add_purge(actions: Commands) -> None:
    parser = command(
        actions,
        "purge",
        _purge,
        Help(
            "delete for good what waits",
            "mirror quarantine purge family --older-than 7",
            "Asks nothing. What no record tells of stays.",
        ),
    )
    add_selection(parser, profile="PROFILE")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--older-than",
        type=_days,
        metavar="DAYS",
        help="what was put there so many days ago, or earlier",
    )
    which.add_argument("--all", action="store_true", help="everything")
    _add_rest(parser)


def _add_rest(parser: Parser) -> None:
    add_wait(parser)
    add_common(parser)


def _days(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"not a number of days: {text!r}")
    return int(text)
