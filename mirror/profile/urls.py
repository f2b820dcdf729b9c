"""What a destination elsewhere may be called, and what is wrong with a name that is none.

No message shows anything of it: it may hold a password. Every character means itself.
"""

import re
from typing import Final

_SCHEME: Final = "s3://"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")  # as S3 has it
# A user, who may be called like a mail address; a host by name or address; a port.
_LOGIN: Final = re.compile(
    r"sftp://([^\s:/\x00-\x1f\x7f]+)@([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?"
)
_SSH_PORT: Final = 22
_MOST_PORT: Final = 65_535


def remote_url(value: object) -> str:
    """A bucket, or a folder of a server, without a slash at the end.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str) and value.startswith("sftp:"):
        return _sftp_url(value)
    return _bucket_url(value)


def _bucket_url(value: object) -> str:
    if not isinstance(value, str) or not value.startswith(_SCHEME) or value == _SCHEME:
        raise ValueError("should be s3://bucket or s3://bucket/prefix, or sftp://user@host/folder")
    bucket, slash, prefix = value.removeprefix(_SCHEME).partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(
            "should have a bucket's name of 3 to 63 characters: small letters, digits, dots, dashes"
            " and underscores, with a letter or a digit at both ends"
        )
    return f"s3://{bucket}{_below(slash + prefix, 'prefix')}"


def _sftp_url(text: str) -> str:
    """The same without the port that is meant anyway."""
    server = text[: _end_of_server(text)]
    found = _LOGIN.fullmatch(server)
    if found is None:
        raise ValueError(
            "should be sftp://user@host/folder, or sftp://user@host:port/folder; a password has a"
            " key of its own"
        )
    user, host, port = found.groups()
    if port is not None and not 1 <= int(port) <= _MOST_PORT:
        raise ValueError("should have a port from 1 to 65535")
    folder = _below(text.removeprefix(server), "folder")
    if folder.startswith("/~"):
        raise ValueError(
            'should have no "~": write the whole path, as in sftp://user@host/home/user/photos'
        )
    shown = "" if port is None or int(port) == _SSH_PORT else f":{int(port)}"
    return f"sftp://{user}@{host.lower()}{shown}{folder}"


def _end_of_server(text: str) -> int:
    at = text.find("/", len("sftp://"))
    return len(text) if at < 0 else at


def _below(path: str, what: str) -> str:
    """A path as folders of ours could be called, without the slash at its end.

    Raises:
        ValueError: it is none.
    """
    if "//" in path:
        raise ValueError(f'should have no "//" in its {what}')
    if re.search(r"[\x00-\x1f\x7f]", path):
        raise ValueError(f"should have no control character in its {what}")
    if not {".", "..", ".mirror"}.isdisjoint(path.split("/")):
        raise ValueError(f'should have no ".", ".." or ".mirror" in its {what}')
    return path.removesuffix("/")
