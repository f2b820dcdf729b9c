"""A store that speaks S3: its requests, with refusals as OSError. Needs the extra `[s3]`.

Everything here blocks, and may be used by several threads at once.
"""

import errno
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mirror.destinations.needs import check_installed
from mirror.destinations.store_refusal import reason, refusal
from mirror.errors import UnwritableError
from mirror.stopping import check_stopping

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, RetryConfig, S3Store

PART_BYTES: Final = 8 << 20  # S3 takes no smaller ones than 5 MiB
_MOST_PARTS: Final = 9_000  # S3 takes 10,000
_PARTS_AT_ONCE: Final = 3
_MIB: Final = 1 << 20
_RETRIES: Final["RetryConfig"] = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
_PATIENCE: Final["ClientConfig"] = {
    "connect_timeout": timedelta(seconds=10),
    "timeout": timedelta(minutes=5),
}
_LONGEST_NAME_BYTES: Final = 255  # longer ones fit no file system that the bucket is copied to
_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Told:
    """What a store says of one object."""

    path: str
    size_bytes: int
    etag: str
    modified: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)  # a listing tells none of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """How a store is reached; what is None comes from the usual AWS environment."""

    bucket: str
    prefix: str
    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)


class Store:
    """The objects below one prefix of one bucket, by their path from there."""

    def __init__(self, account: Account) -> None:
        """Connects to nothing yet.

        Raises:
            UnwritableError: obstore is not installed, or cannot make sense of the account.
        """
        self.account = account
        check_installed(f"s3://{account.bucket}")
        import obstore  # noqa: PLC0415 (an extra)
        from obstore.exceptions import AlreadyExistsError, BaseError  # noqa: PLC0415

        self._obstore = obstore
        self._refusals = BaseError, ValueError, OSError
        self._exists = AlreadyExistsError
        self._ranges: bool | None = None  # whether it gives any; not tried yet
        self._endpoint = _endpoint(account) or "Amazon S3"
        try:
            self._store = self._made(account)
        except BaseError as error:
            raise UnwritableError(
                f"s3://{account.bucket}: cannot be reached like this",
                why=reason(str(error)),
                hint="check endpoint, region and keys",
            ) from error

    def _made(self, account: Account) -> "S3Store":
        from obstore.store import S3Store  # noqa: PLC0415 (an extra)

        endpoint = _endpoint(account)
        given: dict[str, Any] = {
            "endpoint": endpoint,
            "region": account.region,
            "access_key_id": account.access_key,
            "secret_access_key": account.secret_key,
        }
        return S3Store(
            account.bucket,
            prefix=account.prefix or None,
            client_options={
                **_PATIENCE,
                "allow_http": endpoint is not None and endpoint.startswith("http://"),
            },
            retry_config=_RETRIES,
            # Where TLS guards what is on its way, or nobody can come between, signing each body too
            # would be one more hash of all bytes; what arrived, the ETag proves.
            unsigned_payload=_is_guarded(endpoint),
            **{key: value for key, value in given.items() if value is not None},
        )

    # -- looking -----------------------------------------------------------------------------------

    def head(self, path: str) -> Told:
        """What an object is, with its metadata.

        Raises:
            FileNotFoundError: there is none.
        """
        with self._translated(path):
            found = self._obstore.get(self._store, _key(path), options={"head": True})
            metadata = {name.lower(): str(value) for name, value in found.attributes.items()}
            return _told(found.meta, metadata)

    def listed(self, folder: str = "") -> Iterator[Told]:
        """Everything below a folder, in no order that is promised."""
        with self._translated(folder):
            for batch in self._obstore.list(self._store, _key(folder) if folder else None):
                check_stopping()
                for meta in batch:
                    yield _told(meta)

    def lies_below(self, folder: str) -> bool:
        """Whether anything does."""
        with self._translated(folder):
            batches = self._obstore.list(self._store, _key(folder), chunk_size=1)
            return any(len(batch) > 0 for batch in batches)

    def names(self, folder: str) -> list[str]:
        """The names directly in a folder, sorted."""
        with self._translated(folder):
            found = self._obstore.list_with_delimiter(self._store, _key(folder))
            paths = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
            return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def pieces(self, path: str) -> Iterator[bytes]:
        """An object's bytes, all of the same version, or an error."""
        told = self.head(path)
        if told.size_bytes <= PART_BYTES or not self._gives_ranges(told):
            yield from self._streamed(told)
            return
        # One request for a large object would have to be answered within its time limit.
        for start in range(0, told.size_bytes, PART_BYTES):
            end = min(start + PART_BYTES, told.size_bytes)
            check_stopping()
            with self._translated(path):
                yield self._range(told, start, end)

    def _streamed(self, told: Told) -> Iterator[bytes]:
        left_bytes = told.size_bytes
        with self._translated(told.path):
            found = self._obstore.get(self._store, _key(told.path))
            _refuse_another(found.meta, told)
            for piece in found.stream(min_chunk_size=_MIB):
                check_stopping()
                left_bytes -= len(piece)
                yield bytes(piece)
        if left_bytes:
            raise OSError(errno.EIO, "the store gave less than it has", told.path)

    def _range(self, told: Told, start: int, end: int) -> bytes:
        options: GetOptions = {"range": (start, end)}
        found = self._obstore.get(self._store, _key(told.path), options=options)
        _refuse_another(found.meta, told)
        piece = bytes(found.bytes())
        if len(piece) != end - start:
            raise OSError(errno.EIO, "the store gave less than it has", told.path)
        return piece

    def _gives_ranges(self, told: Told) -> bool:
        """Whether a part of an object can be had; rclone 1.75 always sends all of it."""
        if self._ranges is None:
            try:
                with self._translated(told.path):
                    self._range(told, 0, 1)
            except OSError as error:
                if "non-partial" not in (error.strerror or ""):
                    raise
                self._ranges = False
            else:
                self._ranges = True
        return self._ranges

    def prove(self) -> None:
        """Refuse what has everything that it is asked for, as a web server may: it is no store.

        Raises:
            OSError: it has what nobody can have put there.
        """
        nothing = str(uuid.uuid4())
        try:
            self.head(nothing)
        except (FileNotFoundError, PermissionError):
            return
        why = f"{self._endpoint} does not answer as an S3 store"
        raise OSError(errno.EPROTO, why, nothing)

    # -- changing ----------------------------------------------------------------------------------

    def put(
        self, path: str, data: bytes, metadata: Mapping[str, str], *, create: bool = False
    ) -> str:
        """Write a small object in one request, and get its ETag; `create`: only where none is.

        Raises:
            FileExistsError: there is one, and the store cares.
        """
        with self._translated(path):
            done = self._obstore.put(
                self._store,
                _key(path),
                data,
                attributes=dict(metadata),
                mode="create" if create else "overwrite",
                use_multipart=False,
            )
        return _etag(done)

    def put_parts(
        self, path: str, pieces: Iterator[bytes], part_bytes: int, metadata: Mapping[str, str]
    ) -> str:
        """Write a large object in parts, and get its ETag; an error in `pieces` leaves nothing."""
        with self._translated(path):
            done = self._obstore.put(
                self._store,
                _key(path),
                pieces,
                attributes=dict(metadata),
                use_multipart=True,
                chunk_size=part_bytes,
                max_concurrency=_PARTS_AT_ONCE,
            )
        return _etag(done)

    def copy(self, source: str, path: str) -> None:
        """Copy an object inside the store, with its metadata, over whatever lies there."""
        with self._translated(source):
            self._obstore.copy(self._store, _key(source), _key(path))

    def delete(self, path: str) -> None:
        """Remove an object, if it is there."""
        with self._translated(path):
            self._obstore.delete(self._store, _key(path))

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except self._exists as error:
            raise FileExistsError(errno.EEXIST, "File exists", path) from error
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise OSError(errno.ENODEV, "there is no such bucket", path) from None
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path) from None
        except self._refusals as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise refusal(error, path, self._endpoint) from None


def _endpoint(account: Account) -> str | None:
    """As obstore looks for it itself; None: Amazon's."""
    told = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT")
    return account.endpoint or told


def _is_guarded(endpoint: str | None) -> bool:
    """Whether nobody can change what is on its way: S3's own address is one of TLS."""
    if endpoint is None:
        return True
    url = urlsplit(endpoint)
    return url.scheme == "https" or url.hostname in _THIS_MACHINE


def part_bytes(size_bytes: int) -> int:
    """How large the parts of an object of this size are; it has no parts where one holds it all."""
    least = -(-size_bytes // _MOST_PARTS)
    return max(PART_BYTES, -(-least // _MIB) * _MIB)


def _refuse_another(meta: Any, told: Told) -> None:  # noqa: ANN401 (obstore's)
    if _etag(meta) != told.etag:
        raise OSError(errno.ESTALE, "it was written to while it was read", told.path)


def _told(meta: Any, metadata: Mapping[str, str] | None = None) -> Told:  # noqa: ANN401 (obstore's)
    return Told(meta["path"], meta["size"], _etag(meta), meta["last_modified"], metadata or {})


def _etag(meta: Any) -> str:  # noqa: ANN401 (obstore's)
    """Some listings have it without quotes."""
    return str(meta["e_tag"] or "").strip('"')


def _key(path: str) -> str:
    """A path as an object's key.

    Raises:
        OSError: no object can be called that.
    """
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        raise OSError(errno.EILSEQ, "keys are UTF-8", path) from None
    if re.search(r"[\x00-\x1f\x7f]", path):
        raise OSError(errno.EILSEQ, "objects get no names with control characters", path)
    if any(len(name) > _LONGEST_NAME_BYTES for name in encoded.split(b"/")):
        raise OSError(errno.ENAMETOOLONG, "File name too long", path)
    return path
