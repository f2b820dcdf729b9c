"""The options of `mirror copy`, as text; what they mean is in `mirror.copying`.

Apart from it because every start of the program builds the whole parser, and this is quick to load.
"""

import argparse
from typing import Any


def add_copy_options(parser: argparse.ArgumentParser) -> None:
    """The options of immich-ppdl, under their own names, and a few that it did not have.

    Values stay text, and an option that is not used is not in the namespace: it may come from the
    environment, and a wrong value is to be told together with all others.
    """
    _add_script_options(
        parser.add_argument_group(
            "options of immich-ppdl",
            "each also with dashes, as an environment variable (IMMICH_API_URL), "
            "or as a file of its name in $CREDENTIALS_DIRECTORY",
        )
    )
    _add_own_options(parser.add_argument_group("more options"))


_Group = argparse._ArgumentGroup  # noqa: SLF001 (it has no other name)


def _add_script_options(group: _Group) -> None:
    _add(group, "--immich_api_url", metavar="URL", help='the server; "/api" is found by itself')
    _add(
        group,
        "--immich_api_key",
        metavar="KEY",
        help="needs asset.read and asset.download; on the command line every user of the machine "
        "can see it, so better in IMMICH_API_KEY or in a credential file",
    )
    _add(group, "--save_to", metavar="DIR", help="default: the current folder")
    _add(
        group,
        "--person_ids",
        action="append",
        metavar="ID",
        help="ids of people, all of them on one photo; repeated, with commas, or as JSON",
    )
    _add(group, "--after", metavar="TIME", help="uploaded since; without a zone it is local time")
    _add(group, "--last_days", metavar="N", help="uploaded in the last N days")
    _add(
        group,
        "--filters",
        action="append",
        metavar="JSON|KEY=VALUE",
        help="search fields of the server; they win over all other options",
    )
    _add(group, "--threads", metavar="N", help="most downloads at once, default: 4")
    _add(
        group,
        "--dry",
        nargs="?",
        const="true",
        metavar="true|false",
        help="print the paths that would be written, and write nothing",
    )
    _add(group, "--no-dry", dest="dry", action="store_const", const="false", help=argparse.SUPPRESS)


def _add_own_options(group: _Group) -> None:
    _add(
        group,
        "--layout",
        metavar="LAYOUT",
        help="where each file goes, default: {taken:%%Y/%%m/%%d}/{filename}",
    )
    _add(
        group,
        "--live-photos",
        metavar="both|still|video",
        help="which half of live photos, default: both",
    )
    _add(
        group,
        "--names",
        metavar="portable|posix",
        help="names legal on every system, or as the server has them; default: portable",
    )
    _add(
        group,
        "--owners",
        metavar="me|anyone",
        help="whether partners' photos come too, as immich-ppdl had it; default: me",
    )
    _add(group, "--min-free", metavar="SIZE", help='free space that is kept, as "1GiB"; default: 0')
    group.add_argument(
        "--rebind", action="store_true", help="take over a folder of another user or mirror, once"
    )
    group.add_argument(
        "--allow-removed",
        type=int,
        default=0,
        metavar="N",
        help="replace up to N files that changed on the server, once",
    )


def _add(group: _Group, spelling: str, **how: Any) -> None:  # noqa: ANN401 (as argparse has them)
    """One option, and its other spellings, which no help shows."""
    name = spelling.removeprefix("--").replace("-", "_")
    how = {"dest": name, "default": argparse.SUPPRESS, **how}
    group.add_argument(spelling, **how)
    # pydantic-settings, which parsed the script's command line, makes nothing of case.
    others = {f"--{name}", f"--{name.replace('_', '-')}", f"--{name.upper()}"} - {spelling}
    group.add_argument(*sorted(others), **how | {"help": argparse.SUPPRESS})
