"""Arguments in, exit code out: the only module that prints.

Heavy imports stay inside the commands that need them, so that `--version`, `--help` and completion
are quick.
"""

import argparse
import asyncio
import difflib
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, TypeAlias, TypeVar

import argcomplete
from rich_argparse import RawDescriptionRichHelpFormatter

from mirror import __version__
from mirror.copy_options import add_copy_options
from mirror.errors import (
    ExitCode,
    InternalError,
    InterruptedRunError,
    MirrorError,
    UsageError,
    worst,
)

if TYPE_CHECKING:
    from mirror.commands import Chosen
    from mirror.session import Session
    from mirror.settings import GlobalSettings
    from mirror.transfer import Progress

_T = TypeVar("_T")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Never raises what a user should not see."""
    _replace_closed_streams()
    try:
        return _one_command(argv)
    finally:
        _let_go_of_stderr()


def _replace_closed_streams() -> None:
    """What the caller closed (`2>&-`) takes nothing, and lends its number to no other file."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (for good)
            setattr(sys, name, nowhere)


def _let_go_of_stderr() -> None:
    """Where nobody takes the last lines, Python would end with an exit code of its own."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _one_command(argv: Sequence[str] | None) -> int:
    parser = _parser()
    argcomplete.autocomplete(parser)
    args = parser.parse_args(argv)
    try:
        code = int(args.run(args))
        _flush()
    except MirrorError as error:
        _complain(error)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)
    except Exception as error:  # noqa: BLE001 (a traceback shown to a user is a defect)
        _complain(InternalError.of(error))
        return int(ExitCode.PARTIAL)
    return code


def _flush() -> None:
    """Write out what was printed, while that can still be told from a fault."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UsageError("the output cannot be written", why=str(error)) from error


def _complain(error: MirrorError) -> None:
    from mirror import logs
    from mirror.events import Event, emit

    if os.environ.get("MIRROR_TRACEBACK") and isinstance(error, InternalError):
        traceback.print_exception(error.__cause__)
    if not logs.are_json():
        print(error, file=sys.stderr)
        return
    emit(
        "error",
        Event.ERROR,
        error_code=error.code,
        error_message=f"{error.what}: {error.why}" if error.why else error.what,
        error_hint=error.hint or None,
    )


# -- mirrors ---------------------------------------------------------------------------------------


def _sync(args: argparse.Namespace) -> ExitCode:
    from mirror import commands, logs, render

    settings = _settings(args)
    dry = args.dry_run
    choices, code = _choices(args, settings)
    with _progress(args) as progress:
        session = _session(args, progress, dry=dry)
        stopped = _stopped(commands.sync(choices, session))
    reports = session.reports
    if dry:
        _print_plans(args, session)
    elif not args.quiet:
        _print_lines(line for report in reports for line in render.report_text(report))
    for report in reports:
        if isinstance(report.error, InterruptedRunError):
            continue  # said once, of the whole command
        if isinstance(report.error, InternalError):
            _complain(report.error)
        elif report.error is not None and not logs.are_json():
            print(f"{report.mirror}: {report.error}", file=sys.stderr)
    if stopped is not None:
        raise stopped
    codes = [code, *(report.exit_code for report in reports)]
    if args.exit_code and any(run.plan.actions for run in session.runs):
        codes.append(ExitCode.PARTIAL)
    return worst(codes)


def _choices(
    args: argparse.Namespace, settings: "GlobalSettings"
) -> tuple[list["Chosen"], ExitCode]:
    """The profiles asked for; with `--all`, one that is not right does not stop the others."""
    from mirror import choose

    if args.profile is not None and not args.all:
        return [choose.chosen(args.profile, args.mirrors, settings)], ExitCode.OK
    if not args.all or args.profile is not None:
        raise UsageError("name a profile, or pass --all", hint="as in `mirror sync family`")
    choices, code = [], ExitCode.OK
    for path in choose.every(settings):
        try:
            choices.append(choose.of_file(path, (), settings))
        except MirrorError as error:
            _complain(error)
            code = error.exit_code
    return choices, code


def _print_plans(args: argparse.Namespace, session: "Session") -> None:
    from mirror import render

    if args.json:
        print(json.dumps([render.plan_json(run) for run in session.runs], indent=1))
        return
    _print_lines(line for run in session.runs for line in render.plan_text(run, full=args.full))


def _list(args: argparse.Namespace) -> ExitCode:
    from mirror import choose, commands, logs, render

    choice = choose.chosen(args.profile, args.mirrors, _settings(args))

    async def show() -> None:
        async for mirror, listed, path in commands.listed(choice, _session(args, None, dry=True)):
            if args.json:
                told = {"mirror": mirror.name, **render.listed_json(listed, path)}
                print(json.dumps(told))
            else:
                print(logs.printable(path))

    _run(show())
    return ExitCode.OK


def _copy(args: argparse.Namespace) -> ExitCode:
    from mirror import commands, render
    from mirror.copying import copy_request

    _settings(args)
    request = copy_request(args)
    choice = commands.Chosen(request.profile, request.profile.mirrors)
    with _progress(args) as progress:
        session = _session(args, progress, dry=request.dry, copies=True)
        stopped = _stopped(commands.sync([choice], session))
    (report,) = session.reports
    if request.dry and report.error is None:
        (run,) = session.runs
        _print_lines(str(request.save_to / path) for path in render.written_paths(run))
    elif not args.quiet:
        _print_lines(render.report_text(report))
    if error := stopped or report.error:
        raise error
    return report.exit_code


# -- trying it -------------------------------------------------------------------------------------


def _demo(args: argparse.Namespace) -> ExitCode:
    from mirror.demo import demo

    _settings(args, tells_files=False)
    return _run(demo(args.to, say=lambda line: print(line, flush=True), quiet=args.quiet))


def _sandbox(args: argparse.Namespace) -> ExitCode:
    from mirror.sandbox import load_library, sample_library, serve

    _settings(args)
    library = (
        sample_library(args.assets, args.seed, args.server_version or "3.1.0")
        if args.library is None
        else load_library(args.library, version=args.server_version)
    )
    asyncio.run(
        serve(library, port=args.port, ready=lambda told: print(json.dumps(told), flush=True))
    )
    return ExitCode.OK


# -- profiles and schemas --------------------------------------------------------------------------


def _profile_show(args: argparse.Namespace) -> ExitCode:
    from mirror import choose
    from mirror.profile.loading import show_profile

    print(show_profile(choose.chosen(args.profile, (), _settings(args)).profile), end="")
    return ExitCode.OK


def _profile_check(args: argparse.Namespace) -> ExitCode:
    from mirror import choose

    profile = choose.chosen(args.profile, (), _settings(args)).profile
    mirrors = ", ".join(mirror.name for mirror in profile.mirrors)
    print(f"{profile.path}: in order; accounts: {', '.join(profile.accounts)}; mirrors: {mirrors}")
    return ExitCode.OK


def _profile_schema(_: argparse.Namespace) -> ExitCode:
    from mirror.profile.text import profile_schema

    print(json.dumps(profile_schema(), indent=1))
    return ExitCode.OK


def _events(_: argparse.Namespace) -> ExitCode:
    from mirror.events import schema

    print(json.dumps(schema(), indent=1))
    return ExitCode.OK


# -- what commands share ---------------------------------------------------------------------------


def _settings(args: argparse.Namespace, *, tells_files: bool = True) -> "GlobalSettings":
    """The global knobs; log lines go where they say from now on."""
    from mirror import logs
    from mirror.settings import global_settings

    settings = global_settings(
        profiles=getattr(args, "profiles", None),
        log_format=args.log_format,
        log_file=args.log_file,
        transfers=getattr(args, "transfers", None),
        min_free=getattr(args, "min_free", None),
    )
    form = settings.log_format
    json_lines = form == "json" or (form == "auto" and not sys.stderr.isatty())
    # A person sees the summary and the progress; a line for every file is for logs.
    tells = args.verbose or (json_lines and tells_files)
    level = "debug" if args.verbose > 1 else "info" if tells else "warning"
    logs.configure(
        json_lines=json_lines,
        level="warning" if args.quiet else level,
        summary=not args.quiet and not args.verbose,
        log_file=settings.log_file,
    )
    return settings


def _session(
    args: argparse.Namespace, progress: "Progress | None", *, dry: bool, copies: bool = False
) -> "Session":
    from mirror.core.guard import Allowed
    from mirror.destinations.identity import Known
    from mirror.progress import Silent
    from mirror.run import Options
    from mirror.session import Session
    from mirror.settings import state_directory

    options = Options(
        dry=dry,
        rebind=getattr(args, "rebind", False),
        new_destination=getattr(args, "new_destination", False),
        allowed=Allowed(
            removed=getattr(args, "allow_removed", 0), lost=getattr(args, "allow_lost", 0)
        ),
        removes=not copies,
    )
    return Session(
        options=options,
        known=None if copies else Known(state_directory()),
        progress=progress or Silent(),
        allow_unknown_server=args.allow_unknown_server,
    )


@contextmanager
def _progress(args: argparse.Namespace) -> Iterator["Progress"]:
    from mirror.progress import shown

    with shown(quiet=args.quiet) as progress:
        yield progress


def _stopped(work: Coroutine[Any, Any, object]) -> InterruptedRunError | None:
    """Run to the end, or to an interruption, which is returned: what was done is told first."""
    try:
        _run(work)
    except InterruptedRunError as error:
        return error
    return None


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; SIGTERM and a closed terminal stop it as Ctrl-C does."""

    async def stoppable() -> _T:
        task = asyncio.current_task()
        if task is not None:
            for number in (signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await work

    try:
        return asyncio.run(stoppable())
    except (asyncio.CancelledError, KeyboardInterrupt) as error:
        raise InterruptedRunError(
            "the run was interrupted", hint="run again: it goes on where it stopped"
        ) from error


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


# -- the parser ------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Mistakes get a "did you mean"."""

    def error(self, message: str) -> NoReturn:
        found = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if found:
            known = re.findall(r"[\w-]+", found[2])
            near = difflib.get_close_matches(found[1], known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            message = f"there is no command {found[1]!r}{meant}"
        self.exit(ExitCode.USAGE, f"usage: {message}\nhint: see `{self.prog} --help`\n")


def _parser() -> _Parser:
    parser = _Parser(
        prog="mirror",
        description="One-way mirrors of Immich photo libraries into plain folders.",
        epilog="example:\n  mirror demo\n  mirror sync family",
        formatter_class=RawDescriptionRichHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mirror {__version__}")
    # Without a name of its own the help would be rendered here, at every start.
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, prog=parser.prog
    )
    _add_sync(commands)
    _add_plan(commands)
    _add_copy(commands)
    _add_list(commands)
    _add_trials(commands)
    _add_profile(commands)
    _add_events(commands)
    return parser


_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"  # noqa: SLF001 (it has no other name)


class _Help(NamedTuple):
    what: str
    example: str
    more: str = ""


_HELP: Final[dict[str, _Help]] = {
    "sync": _Help(
        "bring the destinations of a profile in line with the server",
        "mirror sync family",
    ),
    "plan": _Help(
        "show what sync would do, and change nothing",
        "mirror plan family --full",
    ),
    "copy": _Help(
        "download what a filter selects, without a profile",
        "mirror copy --immich_api_url https://photos.example.org/api --last_days 30",
        "Takes the options of immich-ppdl and never removes anything.",
    ),
    "list": _Help(
        "list what the mirrors of a profile select",
        "mirror list family",
        "Shows the path that the layout gives, before a suffix tells same-named photos apart.",
    ),
    "demo": _Help(
        "see it work: a sample server, a mirror, a change, a verification",
        "mirror demo --to ~/mirror-demo",
    ),
    "sandbox": _Help(
        "serve a sample Immich on loopback until stopped",
        "mirror sandbox --assets 1000",
        "Prints its URL and API keys as one line of JSON.",
    ),
    "show": _Help(
        "print the effective profile as TOML, secrets masked",
        "mirror profile show family",
    ),
    "check": _Help(
        "check a profile, and report every problem at once",
        "mirror profile check ./family.toml",
    ),
    "schema": _Help(
        "print the JSON Schema of a profile, for editors",
        "mirror profile schema > mirror.schema.json",
    ),
    "events": _Help(
        "print the JSON Schema of a log line",
        "mirror events --schema > events.schema.json",
    ),
}


def _command(
    commands: _Commands, name: str, run: Callable[[argparse.Namespace], ExitCode]
) -> _Parser:
    told = _HELP[name]
    parser = commands.add_parser(
        name,
        help=told.what,
        description=f"{told.what[0].upper()}{told.what[1:]}. {told.more}".strip(),
        epilog=f"example:\n  {told.example}",
        formatter_class=RawDescriptionRichHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_sync(commands: _Commands) -> None:
    parser = _command(commands, "sync", _sync)
    _add_selection(parser)
    parser.add_argument("--all", action="store_true", help="every profile that is found")
    parser.add_argument("--dry-run", action="store_true", help="only plan, as `mirror plan`")
    parser.set_defaults(exit_code=False)
    _add_plan_output(parser)
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
        help="replace up to N files that changed on the server or on the disk",
    )
    once.add_argument(
        "--rebind", action="store_true", help="give the destination to this user and mirror"
    )
    once.add_argument(
        "--new-destination",
        action="store_true",
        help="begin anew at a path whose marker is gone: a new disk",
    )
    _add_limits(parser)
    _add_common(parser)


def _add_plan(commands: _Commands) -> None:
    parser = _command(commands, "plan", _sync)
    parser.set_defaults(dry_run=True)
    _add_selection(parser)
    parser.add_argument("--all", action="store_true", help="every profile that is found")
    parser.add_argument(
        "--exit-code", action="store_true", help="exit with 1 when anything would be done"
    )
    _add_plan_output(parser)
    _add_limits(parser)
    _add_common(parser)


def _add_copy(commands: _Commands) -> None:
    parser = _command(commands, "copy", _copy)
    add_copy_options(parser)
    _add_common(parser)


def _add_list(commands: _Commands) -> None:
    parser = _command(commands, "list", _list)
    _add_selection(parser, profile="PROFILE")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    _add_common(parser)


def _add_trials(commands: _Commands) -> None:
    demo = _command(commands, "demo", _demo)
    demo.add_argument("--to", type=Path, metavar="DIR", help="where to keep it")
    _add_common(demo)
    sandbox = _command(commands, "sandbox", _sandbox)
    sandbox.add_argument("--port", type=int, default=0, help="default: any free one")
    sandbox.add_argument("--assets", type=int, default=60, metavar="N", help="default: 60")
    sandbox.add_argument("--seed", type=int, default=0, metavar="N", help="another sample")
    sandbox.add_argument(
        "--library", type=Path, metavar="FILE", help="a recorded library.json instead of a sample"
    )
    sandbox.add_argument("--server-version", choices=["3.1.0", "2.7.5"], help="default: 3.1.0")
    _add_common(sandbox)


def _add_profile(commands: _Commands) -> None:
    parser = commands.add_parser(
        "profile",
        help="show and check profiles",
        description="Show and check profiles.",
        epilog="example:\n  mirror profile check family",
        formatter_class=RawDescriptionRichHelpFormatter,
    )
    actions = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, prog=parser.prog
    )
    show = _command(actions, "show", _profile_show)
    check = _command(actions, "check", _profile_check)
    for action in (show, check):
        action.add_argument("profile", metavar="PROFILE", help="a name, or a path")
        _add_lookup(action)
        _add_common(action)
    _command(actions, "schema", _profile_schema)


def _add_events(commands: _Commands) -> None:
    parser = _command(commands, "events", _events)
    parser.add_argument("--schema", action="store_true", required=True, help="the only choice")


def _add_selection(parser: _Parser, profile: str = "[PROFILE]") -> None:
    nargs = "?" if profile.startswith("[") else None
    parser.add_argument("profile", metavar="PROFILE", nargs=nargs, help="a name, or a path")
    parser.add_argument("mirrors", metavar="MIRROR", nargs="*", help="default: all of them")
    _add_lookup(parser)


def _add_lookup(parser: _Parser) -> None:
    parser.add_argument(
        "--profiles", type=Path, metavar="DIR", help="where profiles are looked up first"
    )


def _add_plan_output(parser: _Parser) -> None:
    group = parser.add_argument_group("how a plan is shown")
    group.add_argument("--full", action="store_true", help="a line for every action")
    group.add_argument("--json", action="store_true", help="as JSON")


def _add_limits(parser: _Parser) -> None:
    group = parser.add_argument_group("above what the profile says")
    group.add_argument("--transfers", metavar="N", help="most downloads at once")
    group.add_argument("--min-free", metavar="SIZE", help='free space that is kept, as "1GiB"')


def _add_common(parser: _Parser) -> None:
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
