"""profile new, show, check, unit and schema; events."""

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich_argparse import RawDescriptionRichHelpFormatter

from mirror.cli import new
from mirror.cli.arguments import Commands, Help, add_common, add_lookup, command
from mirror.cli.shared import complain, print_lines, run, settings_of
from mirror.errors import ExitCode, MirrorError, UsageError, worst

if TYPE_CHECKING:
    from mirror.online import Findings
    from mirror.profile import Profile


def add(commands: Commands) -> None:
    """The commands of this module."""
    _add_profile(commands)
    _add_events(commands)


def _add_profile(commands: Commands) -> None:
    parser = commands.add_parser(
        "profile",
        help="make, show and check profiles",
        description="Make, show and check profiles.",
        epilog="example:\n  mirror profile check family",
        formatter_class=RawDescriptionRichHelpFormatter,
    )
    actions = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, prog=parser.prog
    )
    new.add(actions)
    show = command(
        actions,
        "show",
        _profile_show,
        Help("print the effective profile as TOML, secrets masked", "mirror profile show family"),
    )
    check = command(
        actions,
        "check",
        _profile_check,
        Help(
            "check a profile, and report every problem at once",
            "mirror profile check ./family.toml",
            "With --online every account and destination is tried, too; nothing is written.",
        ),
    )
    check.add_argument(
        "--online",
        action="store_true",
        help="ask the servers: whose key, what it may do, what is selected and what is not",
    )
    check.add_argument("--json", action="store_true", help="what --online finds, as JSON")
    unit = command(
        actions,
        "unit",
        _profile_unit,
        Help(
            "print what a profile needs of its systemd unit, as a drop-in",
            "mirror profile unit family",
        ),
    )
    for action in (show, check, unit):
        action.add_argument("profile", metavar="PROFILE", help="a name, or a path")
        add_lookup(action)
        add_common(action)
    command(
        actions,
        "schema",
        _profile_schema,
        Help(
            "print the JSON Schema of a profile, for editors",
            "mirror profile schema > mirror.schema.json",
        ),
    )


def _add_events(commands: Commands) -> None:
    parser = command(
        commands,
        "events",
        _events,
        Help("print the JSON Schema of a log line", "mirror events --schema > events.schema.json"),
    )
    parser.add_argument("--schema", action="store_true", required=True, help="the only choice")


def _profile_show(args: argparse.Namespace) -> ExitCode:
    from mirror import choose
    from mirror.profile.loading import show_profile

    print(show_profile(choose.chosen(args.profile, (), settings_of(args)).profile), end="")
    return ExitCode.OK


def _profile_check(args: argparse.Namespace) -> ExitCode:
    from mirror import choose

    if args.json and not args.online:
        raise UsageError("--json is of what --online finds", hint="pass --online as well")
    profile = choose.chosen(args.profile, (), settings_of(args, tells_files=False)).profile
    if args.online:
        return _try_online(args, profile)
    if code := _tell_needs(profile):
        return code
    mirrors = ", ".join(mirror.name for mirror in profile.mirrors)
    print(f"{profile.path}: in order; accounts: {', '.join(profile.accounts)}; mirrors: {mirrors}")
    return ExitCode.OK


def _tell_needs(profile: "Profile") -> ExitCode:
    """Say what this machine lacks for the destinations."""
    from mirror.destinations.needs import check_needs

    lacking: dict[str, MirrorError] = {}
    for destination in (each for mirror in profile.mirrors for each in mirror.destinations):
        try:
            check_needs(destination)
        except MirrorError as error:
            lacking[str(error)] = error
    for lack in lacking.values():
        complain(lack)
    return worst(lack.exit_code for lack in lacking.values())


def _try_online(args: argparse.Namespace, profile: "Profile") -> ExitCode:
    from mirror import online_text
    from mirror.online import tried
    from mirror.status import Memory

    allowed = args.allow_unknown_server
    found = run(tried(profile, Memory.of_user(), allow_unknown_server=allowed))
    now = datetime.now(UTC)
    if args.json:
        print(json.dumps(online_text.findings_json(found), indent=1))
    elif sys.stdout.isatty():
        _show(found, now)
    else:
        print_lines(online_text.findings_lines(found, now))
    return found.exit_code


def _show(found: "Findings", now: datetime) -> None:
    from rich.console import Console

    from mirror import online_text

    console = Console(highlight=False)
    for table in online_text.findings_tables(found, now):
        console.print(table)
    for line in online_text.below_tables(found):
        console.print(line, markup=False)


def _profile_unit(args: argparse.Namespace) -> ExitCode:
    from mirror import choose
    from mirror.profile.unit import drop_in

    print(drop_in(choose.chosen(args.profile, (), settings_of(args)).profile), end="")
    return ExitCode.OK


def _profile_schema(_: argparse.Namespace) -> ExitCode:
    from mirror.profile.text import profile_schema

    print(json.dumps(profile_schema(), indent=1))
    return ExitCode.OK


def _events(_: argparse.Namespace) -> ExitCode:
    from mirror.events import schema

    print(json.dumps(schema(), indent=1))
    return ExitCode.OK
