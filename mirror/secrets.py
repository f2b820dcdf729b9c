"""Where an API key comes from, and the reading of it.

A profile names the source; the key itself is read when a run begins, and never shown or logged.
"""

import os
import subprocess
from pathlib import Path
from typing import Final, assert_never

from mirror.core.secret import (
    CommandSecret,
    CredentialSecret,
    EnvSecret,
    FileSecret,
    LiteralSecret,
    Secret,
)
from mirror.errors import KeyRefusedError

MASK: Final = "********"
_LONGEST_NAME: Final = 32  # Immich's keys have 40 characters and more
COMMAND_LIMIT_S: Final = 30.0


def read_secret(secret: Secret, *, command_limit_s: float = COMMAND_LIMIT_S) -> str:
    """The key, without its trailing newline. Blocks; a command may take `command_limit_s`.

    Raises:
        KeyRefusedError: there is none to be read. Names the source, never the key.
    """
    source = source_of(secret)
    return _checked(_text_of(secret, source, command_limit_s).rstrip("\r\n"), source)


def read_password(secret: Secret, *, command_limit_s: float = COMMAND_LIMIT_S) -> str:
    """As `read_secret`, and of any characters that fit on one line.

    Raises:
        KeyRefusedError: there is none to be read. Names the source, never the password.
    """
    source = source_of(secret)
    password = _text_of(secret, source, command_limit_s).rstrip("\r\n")
    if not password:
        raise _no_key(source, "it is empty or not set", "put the password there, on one line")
    if not password.isprintable():
        raise _no_key(source, "it holds more than a line of text", "leave nothing but the password")
    return password


def _text_of(secret: Secret, source: str, command_limit_s: float) -> str:
    match secret:
        case LiteralSecret(key):
            return key
        case CredentialSecret(name):
            return _read(_credentials_folder(source) / name, source)
        case FileSecret(path):
            return _read(Path(path), source)
        case EnvSecret(name):
            return os.environ.get(name, "")
        case CommandSecret(argv):
            return _run(argv, source, command_limit_s)
        case _ as never:
            assert_never(never)


def source_of(secret: Secret) -> str:
    """Where the key comes from, in words for a message; shows nothing that may be secret."""
    match secret:
        case LiteralSecret():
            return "the key written in the profile"
        case CredentialSecret(name):
            return f"the credential {_shown(name)!r}"
        case FileSecret(path):
            return f"the file {path}"
        case EnvSecret(name):
            return f"the environment variable {_shown(name)}"
        case CommandSecret(argv):
            return f"the command {argv[0]!r}"
        case _ as never:
            assert_never(never)


def _shown(name: str) -> str:
    """A name; but not what is as long as a key, which may have slipped into its place."""
    return name if len(name) < _LONGEST_NAME else f"{name[:4]}… ({len(name)} characters)"


def _credentials_folder(source: str) -> Path:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise _no_key(
            source,
            "$CREDENTIALS_DIRECTORY is not set",
            "run from a systemd unit with LoadCredential=, or use { file = … } by hand",
        )
    return Path(folder)


def _read(path: Path, source: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        hint = "put it there, where this user can read it, or name another file"
        raise _no_key(source, f"{path}: {error.strerror}", hint) from error
    except UnicodeDecodeError:
        # Not chained: the exception carries the bytes.
        raise _no_key(source, "it is not text") from None


def _run(argv: tuple[str, ...], source: str, limit_s: float) -> str:
    try:
        done = subprocess.run(  # noqa: S603 (the owner of the profile chose it; no shell)
            argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        # Not chained: the exception carries the arguments and what was printed so far.
        raise _no_key(source, f"it gave no answer within {limit_s:g} s") from None
    except OSError as error:
        raise _no_key(source, f"it cannot be started: {error.strerror}") from None
    if done.returncode != 0:
        raise _no_key(source, f"it ended with exit code {done.returncode}", "run it by hand")
    return done.stdout.decode("utf-8", "replace")


def _checked(key: str, source: str) -> str:
    if not key:
        raise _no_key(source, "it is empty or not set", "put the key there, alone on one line")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise _no_key(
            source,
            "it holds more than a key: several lines, spaces, or other than ASCII",
            "leave nothing but the key, on one line",
        )
    return key


def _no_key(source: str, why: str, hint: str = "") -> KeyRefusedError:
    return KeyRefusedError(f"no API key could be read from {source}", why=why, hint=hint)
