"""One command from its arguments to its exit code; never raises what a user should not see."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich_argparse import RawDescriptionRichHelpFormatter

from mirror import __version__
from mirror.cli import checks, mirrors, profiles, quarantine, states, trials
from mirror.cli.arguments import Parser, Version
from mirror.cli.shared import complain
from mirror.errors import ExitCode, InternalError, MirrorError, UsageError

_GROUPS = (mirrors, checks, quarantine, states, trials, profiles)  # in the order of the help
_COMPLETION: Final = "_ARGCOMPLETE"  # what the shell sets that wants to know what may come next


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
    parser = make_parser()
    if _COMPLETION in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    args = parser.parse_args(argv)
    try:
        code = int(args.run(args))
        _flush()
    except MirrorError as error:
        complain(error)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)
    except Exception as error:  # noqa: BLE001 (a traceback shown to a user is a defect)
        complain(InternalError.of(error))
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


def make_parser() -> Parser:
    """Every command and what it takes."""
    parser = Parser(
        prog="mirror",
        description="One-way mirrors of Immich photo libraries into folders, buckets and servers.",
        epilog="example:\n  mirror demo\n  mirror sync family",
        formatter_class=RawDescriptionRichHelpFormatter,
    )
    parser.add_argument("--version", action=Version, version=f"mirror {__version__}")
    # Without a name of its own the help would be rendered here, at every start.
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, prog=parser.prog
    )
    for group in _GROUPS:
        group.add(commands)
    return parser
