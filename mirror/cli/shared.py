"""What commands share: settings, sessions, how a run is stopped, how an error is told."""

import argparse
import os
import sys
import traceback
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mirror.errors import ExitCode, InternalError, InterruptedRunError, MirrorError, UsageError

if TYPE_CHECKING:
    from typing import TextIO

    from mirror.cli.brake import Brake
    from mirror.core.model import Limits
    from mirror.core.report import Summed
    from mirror.profile import Chosen
    from mirror.session import Session
    from mirror.settings import GlobalSettings
    from mirror.transfer import Progress

_T = TypeVar("_T")
_SHOW_CURSOR: Final = "\x1b[?25h"


def complain(error: MirrorError) -> None:
    """Say what went wrong, on stderr and in its form."""
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


def complain_of(reports: "Iterable[Summed]") -> None:
    """What stopped mirrors, where the log did not say it."""
    from mirror import logs

    for report in reports:
        if isinstance(report.error, InterruptedRunError):
            continue  # said once, of the whole command
        if isinstance(report.error, InternalError):
            complain(report.error)
        elif report.error is not None and not logs.are_json():
            print(f"{report.mirror}: {report.error}", file=sys.stderr)


def choices_of(
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
            complain(error)
            code = error.exit_code
    return choices, code


def settings_of(args: argparse.Namespace, *, tells_files: bool = True) -> "GlobalSettings":
    """The global knobs; log lines go where they say from now on."""
    from mirror import logs
    from mirror.settings import global_settings

    settings = global_settings(
        profiles=getattr(args, "profiles", None),
        log_format=args.log_format,
        log_file=args.log_file,
        transfers=getattr(args, "transfers", None),
        min_free=getattr(args, "min_free", None),
        bandwidth=getattr(args, "bandwidth", None),
        max_transfer=getattr(args, "max_transfer", None),
        max_duration=getattr(args, "max_duration", None),
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


def session_of(
    args: argparse.Namespace,
    progress: "Progress | None",
    *,
    dry: bool,
    copies: bool = False,
    limits: "Limits | None" = None,
) -> "Session":
    """What the mirrors of this command share."""
    from mirror.core.guard import Allowed
    from mirror.core.model import Limits
    from mirror.destinations.identity import Known
    from mirror.options import Options
    from mirror.progress import Silent
    from mirror.session import Session
    from mirror.settings import state_directory

    shard = getattr(args, "shard", None)
    options = Options(
        dry=dry,
        trusts_times=not getattr(args, "checksum", False),
        rebind=getattr(args, "rebind", False),
        new_destination=getattr(args, "new_destination", False),
        relist=getattr(args, "relist", False),
        allowed=Allowed(
            removed=getattr(args, "allow_removed", 0),
            lost=getattr(args, "allow_lost", 0),
            scope=getattr(args, "accept_scope", False),
            restored_server=getattr(args, "accept_restored_server", False),
        ),
        removes=not copies and shard is None,
        shard=shard,
        wait_s=getattr(args, "wait", 0.0),
    )
    return Session(
        options=options,
        known=None if copies else Known(state_directory()),
        progress=progress or Silent(),
        limits=limits or Limits(),
        allow_unknown_server=args.allow_unknown_server,
    )


@contextmanager
def progress_of(args: argparse.Namespace) -> Iterator["Progress"]:
    """Bars, where there is a terminal."""
    from mirror.progress import shown

    with shown(quiet=args.quiet) as progress:
        yield progress


def stopped_of(work: Coroutine[Any, Any, object]) -> InterruptedRunError | None:
    """Run to the end, or to an interruption, which is returned: what was done is told first."""
    try:
        run(work)
    except InterruptedRunError as error:
        return error
    return None


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end; Ctrl-C, SIGTERM and a closed terminal stop it, a second one at once.

    Raises:
        InterruptedRunError: it was stopped; what was under way is finished, or given up.
    """
    import asyncio

    from mirror.cli.brake import Brake

    async def stoppable(brake: "Brake") -> _T:
        task = asyncio.current_task()
        if task is not None:
            brake.stops(task)
        return await work

    try:
        with Brake(_tell_left) as brake:
            return asyncio.run(stoppable(brake))
    except (asyncio.CancelledError, KeyboardInterrupt) as error:
        raise InterruptedRunError(
            "the run was interrupted", hint="run again: it goes on where it stopped"
        ) from error


def _tell_left(why: str) -> None:
    """The last word of a process that ends at once."""
    if sys.stderr.isatty():
        sys.stderr.write(_SHOW_CURSOR)  # the bars had hidden it
    complain(InterruptedRunError("stopped at once", why=why, hint="run again: it goes on"))
    sys.stderr.flush()


def print_lines(lines: Iterable[str], file: "TextIO | None" = None) -> None:
    """Results, on stdout unless that is taken."""
    for line in lines:
        print(line, file=file)
