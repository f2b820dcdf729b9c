"""What this machine needs for a destination elsewhere, as far as it can tell without asking."""

import importlib
import warnings
from typing import Final

from mirror.core.model import Destination
from mirror.errors import UnwritableError

# Of each kind: what it is called, the package that speaks it, and the extra that brings it.
_PARTS: Final = {
    "s3": ("buckets need", "obstore", "s3"),
    "sftp": ("SFTP needs", "asyncssh", "sftp"),
}


def check_installed(url: str) -> None:
    """Load what speaks to such a place.

    Raises:
        UnwritableError: it is not installed.
    """
    what, package, extra = _PARTS[url.partition(":")[0]]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # asyncssh's, of old ciphers that nobody asks for
            importlib.import_module(package)
    except ImportError as error:
        raise UnwritableError(
            f"{url}: {what} a part that is not installed",
            why=str(error),
            hint=(
                f"in this project's folder `uv tool install '.[{extra}]'`, or as the program was"
                " installed (pip, pipx); '.[s3,sftp]' has both kinds"
            ),
        ) from error


def check_needs(destination: Destination) -> None:
    """Refuse what cannot work, whatever the other end says; asks nobody, and reads no secret.

    Raises:
        UnwritableError: what speaks to it is not installed, or its key file is no key.
    """
    if destination.is_bucket:
        check_installed(destination.path)
    elif destination.is_sftp:
        from mirror.destinations.sftp_site import SftpSite  # noqa: PLC0415 (imports this one)

        SftpSite(destination).check_key()
