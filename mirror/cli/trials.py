"""demo and sandbox: trying it."""

import argparse
import json
from pathlib import Path

from mirror.cli.arguments import Commands, Help, add_common, command
from mirror.cli.shared import run, settings_of
from mirror.errors import ExitCode


def add(commands: Commands) -> None:
    """The commands of this module."""
    demo = command(
        commands,
        "demo",
        _demo,
        Help(
            "see it work: a sample server, a mirror, a change, a verification",
            "mirror demo --to ~/mirror-demo",
        ),
    )
    demo.add_argument("--to", type=Path, metavar="DIR", help="where to keep it")
    add_common(demo)
    sandbox = command(
        commands,
        "sandbox",
        _sandbox,
        Help(
            "serve a sample Immich on loopback until stopped",
            "mirror sandbox --assets 1000",
            "Prints its URL and API keys as one line of JSON.",
        ),
    )
    sandbox.add_argument("--port", type=int, default=0, help="default: any free one")
    sandbox.add_argument("--assets", type=int, default=60, metavar="N", help="default: 60")
    sandbox.add_argument("--seed", type=int, default=0, metavar="N", help="another sample")
    sandbox.add_argument(
        "--library", type=Path, metavar="FILE", help="a recorded library.json instead of a sample"
    )
    sandbox.add_argument("--server-version", choices=["3.1.0", "2.7.5"], help="default: 3.1.0")
    add_common(sandbox)


def _demo(args: argparse.Namespace) -> ExitCode:
    from mirror.demo import demo

    settings_of(args, tells_files=False)
    return run(demo(args.to, say=lambda line: print(line, flush=True), quiet=args.quiet))


def _sandbox(args: argparse.Namespace) -> ExitCode:
    import asyncio

    from mirror.sandbox import load_library, sample_library, serve

    settings_of(args)
    library = (
        sample_library(args.assets, args.seed, args.server_version or "3.1.0")
        if args.library is None
        else load_library(args.library, version=args.server_version)
    )
    asyncio.run(
        serve(library, port=args.port, ready=lambda told: print(json.dumps(told), flush=True))
    )
    return ExitCode.OK
