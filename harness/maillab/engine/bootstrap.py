"""The setup of a bare machine: an engine, and a base image without a registry."""

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
    """Return True if this is Debian or Ubuntu, and this process may install packages."""
    release = Path("/etc/os-release")
    if os.name != "posix" or os.geteuid() != 0 or not release.exists():
        return False
    return (
        re.search(r"(?m)^ID(_LIKE)?=.*(debian|ubuntu)", release.read_text(encoding="utf-8"))
        is not None
    )


def install(packages: list[str], say: Say) -> None:
    """Install Debian packages on this machine; raise NoEngine with apt's own words."""
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


def debian_mirror(archive: str = "debian") -> str | None:
    """Return the mirror of a Debian archive that this machine's package configuration names.

    ``archive`` is "debian", or "debian-security" for the security updates.
    """
    if not shutil.which("apt-get"):
        return None
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return next((uri for uri in listed.split() if re.search(rf"/{archive}/?$", uri)), None)


def _sources(suite: str) -> list[str]:
    """Return lines of sources.list(5) with the suite's updates; [] for mmdebstrap's default.

    The default includes the updates, too.
    """
    mirror, security = debian_mirror(), debian_mirror("debian-security")
    if mirror is None:
        return []
    lines = [f"deb {mirror} {suite} main", f"deb {mirror} {suite}-updates main"]
    return [*lines, f"deb {security} {suite}-security main"] if security else lines


def debootstrap(suite: str, *, testing: bool, say: Say) -> Path:
    """Return a tar file with a minimal system of the suite and python3; the caller deletes it.

    Raise ImageError with the last lines of mmdebstrap(1).
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
        # A testing suite contains its updates.
        sources = [] if testing else _sources(suite)
        mirror = debian_mirror()
        plain = [mirror] if mirror else []
        done = _mmdebstrap(suite, tar, [], sources or plain)
        if done.returncode and sources and re.search("not have a Release file|404 ", done.stderr):
            say(
                f"the mirrors have no updates of {suite}, as of an archived suite; going on without"
            )
            done = _mmdebstrap(suite, tar, [], plain)
        if done.returncode and testing and re.search("expired|not valid anymore", done.stderr):
            say(f"the mirror's Release file of {suite} has expired; using it anyway")
            done = _mmdebstrap(suite, tar, ['Acquire::Check-Valid-Until "false"'], plain)
    except BaseException:
        tar.unlink()
        raise
    if done.returncode:
        tar.unlink()
        if "No space left" in done.stderr:
            raise NoDisk(f"no space left in {tar.parent} while building {suite}'s base image")
        raise ImageError(f"mmdebstrap could not build {suite}: {_last_line(done.stderr)}")
    return tar


def _mmdebstrap(
    suite: str, tar: Path, apt_options: list[str], sources: list[str]
) -> subprocess.CompletedProcess[str]:
    command = [
        "mmdebstrap",
        "--variant=minbase",
        "--include=python3",
        # An unfinished image is thrown away, so there is no need to sync.
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={path}" for path in _EXCLUDED),
        *(f"--aptopt={option}" for option in apt_options),
        suite,
        str(tar),
        *sources,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("E:")] or text.splitlines()
    return lines[-1].strip() if lines else "no message"
