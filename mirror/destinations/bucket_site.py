"""Where a bucket is, and the folder of this machine beside it."""

import hashlib
from pathlib import Path
from typing import Final

from mirror.core.model import Destination
from mirror.core.secret import Secret
from mirror.destinations import INDEX, MARKER, STATE, of_shard, unwritable
from mirror.destinations.bucket import Bucket
from mirror.destinations.identity import is_marker
from mirror.destinations.store import Account, Store
from mirror.errors import MirrorError, NotMountedError, NotOursError, UnwritableError
from mirror.secrets import read_secret
from mirror.settings import state_directory

_SCHEME: Final = "s3://"


class BucketSite:
    """A bucket, or what lies below a prefix of it."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self.name = destination.path
        self._bucket, _, self._prefix = destination.path.removeprefix(_SCHEME).partition("/")
        self.root = _beside(destination)
        self.index_path = self.root / STATE / INDEX
        self._store: Store | None = None
        self._keys: tuple[str | None, str | None] | None = None

    def check(self, *, require_mount: bool | str) -> None:
        """Refuse a prefix inside another destination.

        Raises:
            NotMountedError: the profile requires a mount, which no bucket is.
            NotOursError: it is inside another destination.
            UnwritableError: the store does not answer.
        """
        if require_mount:
            raise NotMountedError(
                f"{self.name}: the profile requires a mount, and a bucket is none",
                hint="set require_mount = false for this destination",
            )
        parts = self._prefix.split("/") if self._prefix else []
        for count in range(len(parts)):
            above = "/".join(parts[:count])
            self._refuse_inside(above)

    def _refuse_inside(self, above: str) -> None:
        marker = f"{STATE}/{MARKER}"
        store = Store(self._account(above))
        try:
            if not is_marker(b"".join(store.pieces(marker))):
                store.prove()
        except (FileNotFoundError, PermissionError):
            return  # keys are often good for one prefix alone
        except OSError as error:
            raise unwritable(self.name, error) from error
        url = f"{_SCHEME}{self._bucket}/{above}".rstrip("/")
        raise NotOursError(
            f"{self.name}: lies inside another destination",
            why=f"{url}/{marker} exists",
            hint="choose a prefix beside it",
        )

    def open(self) -> Bucket:
        """The bucket: that it answers shows when its marker is read."""
        return Bucket(self._opened(), self.name, self.root, shard=self._destination.shard)

    def make(self) -> Bucket:
        """The same: nobody makes buckets but their owner."""
        return self.open()

    def _opened(self) -> Store:
        if self._store is None:
            self._store = Store(self._account(self._prefix))
        return self._store

    def _account(self, prefix: str) -> Account:
        if self._keys is None:
            wanted = self._destination
            self._keys = self._read(wanted.access_key), self._read(wanted.secret_key)
        access_key, secret_key = self._keys
        return Account(
            bucket=self._bucket,
            prefix=prefix,
            endpoint=self._destination.endpoint,
            region=self._destination.region,
            access_key=access_key,
            secret_key=secret_key,
        )

    def _read(self, secret: Secret | None) -> str | None:
        if secret is None:
            return None
        try:
            return read_secret(secret)
        except MirrorError as error:
            what = error.what.replace("API key", "key")
            raise UnwritableError(f"{self.name}: {what}", why=error.why, hint=error.hint) from error


def _beside(destination: Destination) -> Path:
    """One folder for each bucket, prefix and endpoint."""
    told = f"{destination.path}\n{destination.endpoint or ''}"
    digest = hashlib.sha1(told.encode(), usedforsecurity=False).hexdigest()[:12]
    bucket = destination.path.removeprefix(_SCHEME).partition("/")[0]
    return state_directory() / "buckets" / f"{bucket}-{digest}{of_shard(destination.shard)}"
