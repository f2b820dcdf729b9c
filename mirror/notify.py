"""A word to the service manager that started us, if one did: systemd's sd_notify(3)."""

import os
import socket
from contextlib import suppress


def status(text: str) -> None:
    """What `systemctl status` shows; nobody who does not listen holds anything up."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        # A leading "@" is Linux's abstract namespace, whose names begin with NUL.
        sock.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        sock.send(f"STATUS={' '.join(text.split())}".encode())
