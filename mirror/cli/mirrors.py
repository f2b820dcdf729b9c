"""sync, plan, copy and list."""

import argparse
import json
from typing import TYPE_CHECKING

from mirror.cli.arguments import (
    Commands,
    Help,
    add_common,
    add_limits,
    add_plan_output,
    add_relist,
    add_run_limits,
    add_selection,
    add_shard,
    add_wait,
    command,
)
from mirror.cli.shared import (
    choices_of,
    complain_of,
    print_lines,
    progress_of,
    run,
    session_of,
    settings_of,
    stopped_of,
)
from mirror.copy_options import add_copy_options
from mirror.errors import ExitCode, worst

if TYPE_CHECKING:
    from mirror.session import Session


def add(commands: Commands) -> None:
    """The commands of this module."""
    _add_sync(commands)
    _add_plan(commands)
    _add_copy(commands)
    _add_list(commands)


def _sync(args: argparse.Namespace) -> ExitCode:
    from mirror import choose, commands, render

    settings = settings_of(args)
    dry = args.dry_run
    choices, code = choices_of(args, settings)
    if args.shard is not None:
        choose.check_can_be_split(choices)
    with progress_of(args) as progress:
        session = session_of(args, progress, dry=dry, limits=settings.limits)
        stopped = stopped_of(commands.sync(choices, session))
    reports = session.reports
    if dry:
        _print_plans(args, session)
    elif not args.quiet:
        print_lines(line for report in reports for line in render.report_text(report))
    complain_of(reports)
    if stopped is not None:
        raise stopped
    codes = [code, *(report.exit_code for report in reports)]
    if args.exit_code and any(run.plan.actions for run in session.runs):
        codes.append(ExitCode.PARTIAL)
    return worst(codes)


def _print_plans(args: argparse.Namespace, session: "Session") -> None:
    from mirror import render

    if args.json:
        print(json.dumps([render.plan_json(run) for run in session.runs], indent=1))
        return
    print_lines(line for run in session.runs for line in render.plan_text(run, full=args.full))


def _list(args: argparse.Namespace) -> ExitCode:
    from mirror import choose, commands, logs, render

    choice = choose.chosen(args.profile, args.mirrors, settings_of(args))

    async def show() -> None:
        async for mirror, listed, path in commands.listed(choice, session_of(args, None, dry=True)):
            if args.json:
                told = {"mirror": mirror.name, **render.listed_json(listed, path)}
                print(json.dumps(told))
            else:
                print(logs.printable(path))

    run(show())
    return ExitCode.OK


def _copy(args: argparse.Namespace) -> ExitCode:
    from mirror import commands, render
    from mirror.copying import copy_request
    from mirror.profile import Chosen

    settings = settings_of(args)
    request = copy_request(args)
    choice = Chosen(request.profile, request.profile.mirrors)
    with progress_of(args) as progress:
        session = session_of(args, progress, dry=request.dry, copies=True, limits=settings.limits)
        stopped = stopped_of(commands.sync([choice], session))
    (report,) = session.reports
    if request.dry and report.error is None:
        (run,) = session.runs
        print_lines(str(request.save_to / path) for path in render.written_paths(run))
    elif not args.quiet:
        print_lines(render.report_text(report))
    if error := stopped or report.error:
        raise error
    return report.exit_code


# -- what they take


def _add_sync(commands: Commands) -> None:
    parser = command(
        commands,
        "sync",
        _sync,
        Help("bring the destinations of a profile in line with the server", "mirror sync family"),
    )
    add_selection(parser)
    parser.add_argument("--all", action="store_true", help="every profile that is found")
    parser.add_argument("--dry-run", action="store_true", help="only plan, as `mirror plan`")
    parser.set_defaults(exit_code=False)
    add_shard(parser)
    add_wait(parser)
    add_relist(parser)
    add_plan_output(parser)
    once = parser.add_argument_group("once, when a run says so")
    once.add_argument(
        "--allow-lost",
        type=int,
        default=0,
        metavar="N",
        help="download again up to N files that vanished from the disk",
    )
    once.add_argument(
        "--allow-removed",
        type=int,
        default=0,
        metavar="N",
        help="remove, or replace, up to N files whose photos left or changed",
    )
    once.add_argument(
        "--accept-scope",
        action="store_true",
        help="remove what a changed filter, or a partner who is gone, no longer selects",
    )
    once.add_argument(
        "--accept-restored-server",
        action="store_true",
        help="go on with a server that was restored from a backup",
    )
    once.add_argument(
        "--rebind", action="store_true", help="give the destination to this user and mirror"
    )
    once.add_argument(
        "--new-destination",
        action="store_true",
        help="begin anew at a path whose marker is gone: a new disk",
    )
    add_limits(parser)
    add_common(parser)


def _add_plan(commands: Commands) -> None:
    parser = command(
        commands,
        "plan",
        _sync,
        Help("show what sync would do, and change nothing", "mirror plan family --full"),
    )
    parser.set_defaults(dry_run=True, shard=None)
    add_selection(parser)
    parser.add_argument("--all", action="store_true", help="every profile that is found")
    parser.add_argument(
        "--exit-code", action="store_true", help="exit with 1 when anything would be done"
    )
    add_relist(parser)
    add_plan_output(parser)
    add_limits(parser)
    add_common(parser)


def _add_copy(commands: Commands) -> None:
    parser = command(
        commands,
        "copy",
        _copy,
        Help(
            "download what a filter selects, without a profile",
            "mirror copy --immich_api_url https://photos.example.org/api --last_days 30",
            "Takes the options of immich-ppdl and never removes anything.",
        ),
    )
    add_copy_options(parser)
    add_run_limits(parser.add_argument_group("limits of a run"))
    add_wait(parser)
    add_common(parser)


def _add_list(commands: Commands) -> None:
    parser = command(
        commands,
        "list",
        _list,
        Help(
            "list what the mirrors of a profile select",
            "mirror list family",
            "Shows the path that the layout gives, before a suffix tells same-named photos apart.",
        ),
    )
    add_selection(parser, profile="PROFILE")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_common(parser)
