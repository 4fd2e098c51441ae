"""What a bare machine lacks: an engine, and a base image without a registry."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from maillab.errors import ImageError, NoDisk, NoEngine

Say = Callable[[str], None]

_EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")


def is_debian_root() -> bool:
    """Whether this is Debian or Ubuntu, and we may install packages on it."""
    release = Path("/etc/os-release")
    if os.name != "posix" or os.geteuid() != 0 or not release.exists():
        return False
    return re.search(r"(?m)^ID(_LIKE)?=.*(debian|ubuntu)", release.read_text()) is not None


def install(packages: list[str], say: Say) -> None:
    """Install Debian packages on this machine; raises NoEngine with apt's own words."""
    say(f"installing from this machine's packages: {' '.join(packages)}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoEngine(f"{' '.join(command)} failed: {_last_line(done.stderr)}")


def install_engine(say: Say) -> None:
    """Install the distribution's engine and start it."""
    say("no Docker engine here; installing the distribution's (docker.io) and starting it")
    install(["docker.io"], say)
    if shutil.which("systemctl") and Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "start", "docker"], check=False)
    else:
        subprocess.run(["service", "docker", "start"], check=False, stdout=subprocess.DEVNULL)


def debian_mirror() -> str | None:
    """The Debian mirror that this machine's package configuration names, if any."""
    if not shutil.which("apt-get"):
        return None
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return next((uri for uri in listed.split() if re.search(r"/debian/?$", uri)), None)


def debootstrap(suite: str, *, testing: bool, say: Say) -> Path:
    """A tar file with a minimal system of the suite, python3 included; the caller deletes it.

    Raises ImageError with mmdebstrap's last words.
    """
    if not shutil.which("mmdebstrap"):
        if not is_debian_root():
            raise ImageError(
                "no registry answers and mmdebstrap is not installed: install mmdebstrap "
                "(and debian-archive-keyring), or let the engine reach a registry"
            )
        install(["mmdebstrap", "debian-archive-keyring"], say)
    handle, name = tempfile.mkstemp(prefix=f"maillab-{suite}-", suffix=".tar")
    os.close(handle)
    tar = Path(name)
    try:
        done = _mmdebstrap(suite, tar, [])
        if done.returncode and testing and re.search("expired|not valid anymore", done.stderr):
            say(f"the mirror's Release file of {suite} has expired; taking it all the same")
            done = _mmdebstrap(suite, tar, ['Acquire::Check-Valid-Until "false"'])
    except BaseException:
        tar.unlink()
        raise
    if done.returncode:
        tar.unlink()
        if "No space left" in done.stderr:
            raise NoDisk(f"no space left in {tar.parent} while making {suite}'s base image")
        raise ImageError(f"mmdebstrap could not make {suite}: {_last_line(done.stderr)}")
    return tar


def _mmdebstrap(suite: str, tar: Path, apt_options: list[str]) -> subprocess.CompletedProcess[str]:
    mirror = debian_mirror()
    command = [
        "mmdebstrap",
        "--variant=minbase",
        "--include=python3",
        # The image is thrown away when its making is cut short: no need to sync.
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={path}" for path in _EXCLUDED),
        *(f"--aptopt={option}" for option in apt_options),
        suite,
        str(tar),
        *([mirror] if mirror else []),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("E:")] or text.splitlines()
    return lines[-1].strip() if lines else "no message"
