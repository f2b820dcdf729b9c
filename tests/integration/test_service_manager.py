"""The units under a systemd of their own: a fresh Debian in a container without a network.

Takes minutes and Debian's archive: only with MIRROR_NSPAWN=1, as root, with the packages
debootstrap and systemd-container. Nothing of this machine is seen from inside.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

_PROJECT = Path(__file__).parents[2]
_PACKAGES = "python3,python3-venv,ca-certificates,sudo,systemd,systemd-sysv,dbus,iproute2"
_SHIPPED = ("mirror", "systemd", "profiles", "pyproject.toml", "README.md", "LICENSE")
_INSTALL = """
python3 -m venv /opt/mirror && /opt/mirror/bin/pip install --quiet /root/project
ln -sf /opt/mirror/bin/mirror /usr/local/bin/mirror
useradd --system --home-dir /var/lib/mirror --shell /usr/sbin/nologin mirror
install -d -o mirror -g mirror /srv/photos /srv/photos/alice /srv/photos/bob
install -d /etc/mirror/profiles && install -d -m 700 /etc/mirror/credentials
cd /root/project/systemd
cp -r mirror@.service mirror@.timer mirror@.service.d /etc/systemd/system/
"""
_SCENARIO = """#!/bin/bash
ip link set lo up
mirror sandbox --assets 60 > /root/sandbox.json 2> /dev/null & sandbox=$!
until [ -s /root/sandbox.json ]; do sleep 0.2; done
told() { python3 -c "import json; print(json.load(open('/root/sandbox.json'))$1)"; }
sed "s#https://photos.example.org#$(told '["url"]')#" /root/project/profiles/nightly.toml \\
  > /etc/mirror/profiles/family.toml
for name in alice bob; do told '["api_keys"]["minimum"]' > /etc/mirror/credentials/$name; done
install -d /etc/systemd/system/mirror@family.service.d
mirror profile unit family > /etc/systemd/system/mirror@family.service.d/profile.conf
systemctl daemon-reload
systemctl enable --now mirror@family.timer
systemctl list-timers > /root/timers
systemctl start mirror@family.service; echo $? > /root/first
systemctl show mirror@family.service -p StatusText -p User > /root/shown
journalctl --sync
journalctl --unit mirror@family --output json > /root/journal
echo wrong > /etc/mirror/credentials/bob
systemctl start mirror@family.service; echo $? > /root/second
systemctl show mirror@family.service -p ExecMainStatus > /root/failed
kill $sandbox
"""
_UNIT = """[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/root/scenario
ExecStopPost=systemctl poweroff --no-block
"""
_TELL = """[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo %i > /root/on-failure'
"""


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=600)


def _debian(root: Path) -> None:
    archive = os.environ.get("MIRROR_DEBIAN", "http://deb.debian.org/debian")
    _run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", root, archive)
    for name in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
        if Path("/", name).exists():
            shutil.copy(Path("/", name), root / name)
    for name in _SHIPPED:
        copy = shutil.copytree if (_PROJECT / name).is_dir() else shutil.copy
        (root / "root/project").mkdir(exist_ok=True)
        copy(_PROJECT / name, root / "root/project" / name)
    _run("chroot", root, "sh", "-euc", _INSTALL)
    units = root / "etc/systemd/system"
    (units / "mirror-failed@.service").write_text(_TELL)
    (units / "scenario.service").write_text(_UNIT)
    (root / "root/scenario").write_text(_SCENARIO)
    (root / "root/scenario").chmod(0o755)
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/scenario.service").symlink_to("../scenario.service")


@pytest.mark.skipif(not os.environ.get("MIRROR_NSPAWN"), reason="boots a Debian: MIRROR_NSPAWN=1")
def test_the_units_do_under_a_service_manager_what_their_readme_says(tmp_path: Path) -> None:
    root = tmp_path / "root"
    _debian(root)
    _run(
        "systemd-nspawn", "--quiet", "--directory", root, "--register=no", "--keep-unit",
        "--private-network", "--boot", "--console=pipe",
    )  # fmt: skip
    home = root / "root"
    assert "mirror@family.service" in (home / "timers").read_text()
    assert (home / "first").read_text() == "0\n"
    assert "User=mirror" in (home / "shown").read_text()
    assert "downloaded" in (home / "shown").read_text()

    entries = map(json.loads, (home / "journal").read_text().splitlines())
    messages = [entry["MESSAGE"] for entry in entries if entry["_COMM"] == "mirror"]
    lines = [json.loads(message) for message in messages]
    assert lines[-1]["event"] == "run.end"
    assert lines[-1]["counts"] == {"downloaded": 55, "copied": 55}
    assert len([line for line in lines if line["event"].startswith("asset.")]) == 110
    _run("sh", "-c", f"cd {root}/srv/photos/alice && sha1sum -c --quiet .mirror/SHA1SUMS")

    assert (home / "second").read_text() == "1\n"
    assert (home / "failed").read_text() == "ExecMainStatus=3\n"
    assert (home / "on-failure").read_text() == "family\n"
