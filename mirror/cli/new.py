"""profile new: asks, tries each answer at once, and writes a profile that works."""

import argparse
import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mirror.cli.arguments import Commands, Help, add_common, add_lookup, command
from mirror.cli.shared import complain, print_lines, run, settings_of
from mirror.errors import ExitCode, InterruptedRunError, MirrorError, UsageError

if TYPE_CHECKING:
    from mirror.draft import Attempt, Draft

_NEEDED: Final = ("name", "server", "destination")
_KEYS: Final = ("key_file", "key_env", "key_credential")


def add(actions: Commands) -> None:
    """The command, among those of `profile`."""
    parser = command(
        actions,
        "new",
        _new,
        Help(
            "ask for what a profile needs, try each answer, and write it",
            "mirror profile new\n  mirror profile new --name photos --server"
            " https://photos.example.org --key-file ~/me.key --destination ~/photos",
            "On a terminal it asks for what no option says. Nothing is overwritten.",
        ),
    )
    parser.add_argument("--name", metavar="NAME", help="of the profile")
    parser.add_argument("--server", metavar="URL", help="of the Immich server")
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--key-file", metavar="FILE", help="a file that holds the API key")
    keys.add_argument("--key-env", metavar="NAME", help="the variable that holds it")
    keys.add_argument(
        "--key-credential", metavar="NAME", help="the credential of a systemd unit that holds it"
    )
    parser.add_argument(
        "--destination",
        metavar="DIR|URL",
        help="where the files go: a folder, s3://bucket or sftp://user@host/folder",
    )
    parser.add_argument("--archive", action="store_true", help="the archive as well")
    parser.add_argument("--favorite", action="store_true", help="favourites only")
    parser.add_argument("--taken-after", metavar="DATE", help="only what was taken since then")
    parser.add_argument("--layout", metavar="LAYOUT", help="the path of each file")
    add_lookup(parser)
    add_common(parser)


def _new(args: argparse.Namespace) -> ExitCode:
    settings = settings_of(args, tells_files=False)
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    if not asks:
        _check_complete(args)
    try:
        draft = _Making(args, settings.profiles, asks=asks).draft()
    except EOFError as error:
        raise InterruptedRunError("nothing was written", why="there are no answers") from error
    from mirror.draft import write

    write(draft)
    name = draft.path.stem
    print(f"{draft.path} is written; next: `mirror plan {name}`, then `mirror sync {name}`")
    return ExitCode.OK


def _check_complete(args: argparse.Namespace) -> None:
    missing = [f"--{name}" for name in _NEEDED if not getattr(args, name)]
    if not any(getattr(args, name) for name in _KEYS):
        missing.append("--key-file, --key-env or --key-credential")
    if missing:
        raise UsageError(
            f"{', '.join(missing)} is missing",
            why="there is no terminal to ask at",
            hint="the key itself is never an option: everybody on this machine would see it",
        )


class _Making:
    """Answers, from options or from a person, each tried before the next."""

    def __init__(self, args: argparse.Namespace, profiles: Path | None, *, asks: bool) -> None:
        self._args = args
        self._profiles = profiles
        self._asks = asks
        self._draft: Draft

    def draft(self) -> "Draft":
        """All of them; raises what is wrong with an option."""
        args = self._args
        self._each(args.name, "Name of the profile", "photos", self._name)
        self._each(args.server, "Address of the Immich server", "", self._server)
        given = next(
            (f"{key[4:]}:{getattr(args, key)}" for key in _KEYS if getattr(args, key)), None
        )
        if given or not self._asks:
            self._each(given, "", "", self._key)
        else:
            print("The API key needs asset.read and asset.download (Account Settings, API Keys).")
            print("Where is it? file:PATH, env:NAME or credential:NAME; or press Enter to type it.")
            self._each(None, "Key", "", self._key)
        self._choose()
        self._each(
            args.destination,
            "Folder, or s3:// or sftp:// URL, for the photos",
            "~/photos",
            self._destination,
        )
        return self._draft

    def _each(
        self, given: str | None, question: str, default: str, take: Callable[[str], None]
    ) -> None:
        """Take an answer; one of a person that is none is asked for again."""
        while True:
            told = given if given is not None else _asked(question, default)
            try:
                take(told)
            except MirrorError as error:
                if given is not None or isinstance(error, InterruptedRunError):
                    raise
                complain(error)
            else:
                return

    # -- each answer -------------------------------------------------------------------------------

    def _name(self, name: str) -> None:
        from mirror.draft import Draft, check_free
        from mirror.profile.loading import folder_for_new

        if not name or "/" in name or name.startswith((".", "-")) or not name.isprintable():
            raise UsageError(f"{name!r} is no name for a profile", hint="letters and digits")
        path = folder_for_new(self._profiles) / f"{name.removesuffix('.toml')}.toml"
        check_free(path)
        self._draft = Draft(path=path)

    def _server(self, server: str) -> None:
        from mirror.draft import try_server

        self._draft.server = server
        allowed = self._args.allow_unknown_server
        version = run(try_server(self._draft, allow_unknown_server=allowed))
        print(f"  Immich {version} answers.")

    def _key(self, told: str) -> None:
        from mirror.draft import check_free, try_key

        kind, _, where = told.partition(":")
        self._draft.new_key = None
        if not told:
            key_file = self._draft.path.parent.parent / f"{self._draft.path.stem}.key"
            check_free(key_file)
            self._draft.api_key = {"file": str(key_file)}
            self._draft.new_key = getpass.getpass("API key (it is not shown): ").strip()
            if not self._draft.new_key:
                raise UsageError("no key was typed")
        elif kind in ("file", "env", "credential") and where:
            self._draft.api_key = {kind: _absolute(where) if kind == "file" else where}
        else:
            raise UsageError("that is no place of a key", hint="as in file:~/me.key")
        if self._key_is_elsewhere:
            self._draft.profile()
            print("  It is there in the unit alone, and could not be tried here.")
            return
        self._try(try_key)

    @property
    def _key_is_elsewhere(self) -> bool:
        """Whether only the unit will have the credential."""
        return "credential" in self._draft.api_key and not os.environ.get("CREDENTIALS_DIRECTORY")

    def _choose(self) -> None:
        """The filter and the layout."""
        args, draft = self._args, self._draft
        if self._asks and not (args.archive or args.favorite or args.taken_after):
            self._each(None, "Which photos: all, archive (as well), favorites", "all", self._kind)
            self._each(None, "Only those taken since (a date, or nothing)", "", self._since)
        else:
            self._kind("archive" if args.archive else "all")
            if args.favorite:
                draft.filter["favorite"] = True
            self._since(args.taken_after or "")
        given = args.layout if args.layout or self._asks else _default_layout()
        self._each(given, "Path of each photo", _default_layout(), self._layout)

    def _kind(self, kind: str) -> None:
        chosen: dict[str, dict[str, object]] = {
            "all": {},
            "archive": {"visibility": ["timeline", "archive"]},
            "favorites": {"favorite": True},
        }
        if kind not in chosen:
            raise UsageError(f"{kind!r} is none of them", hint=", ".join(chosen))
        self._draft.filter = chosen[kind]

    def _since(self, date: str) -> None:
        self._draft.filter.pop("taken_after", None)
        if date:
            self._draft.filter["taken_after"] = date
        try:
            self._draft.profile()
        except MirrorError:
            self._draft.filter.pop("taken_after", None)
            raise

    def _layout(self, layout: str) -> None:
        self._draft.layout = None if layout == _default_layout() else layout
        self._draft.profile()

    def _destination(self, path: str) -> None:
        from mirror.draft import try_all

        self._draft.destination = path if "://" in path else _absolute(path)
        if self._key_is_elsewhere:
            self._draft.profile()
            return
        self._try(try_all)

    def _try(self, attempt: "Attempt") -> None:
        """Tell what was found; a problem is an answer that is none."""
        from datetime import UTC, datetime

        from mirror.online_text import findings_lines
        from mirror.status import Memory

        allowed = self._args.allow_unknown_server
        found = run(attempt(self._draft, Memory.of_user(), allow_unknown_server=allowed))
        lines = list(findings_lines(found, datetime.now(UTC)))
        if found.worst is not None:
            raise found.worst
        print_lines(f"  {line}" for line in lines)


def _default_layout() -> str:
    from mirror.core.model import Mirror

    return Mirror(name="", account="").layout


def _absolute(path: str) -> str:
    return path if path.startswith("~/") else os.path.abspath(path)  # noqa: PTH100 (links stay)


def _asked(question: str, default: str) -> str:
    shown = f" [{default}]" if default else ""
    return input(f"{question}{shown}: ").strip() or default
