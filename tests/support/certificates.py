"""Certificates that a lab's authority issues on this machine, without a lab."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import cast

import pytest

from maillab.hosts.command import Done
from maillab.hosts.postfix import PostfixHost
from maillab.hosts.tls import Authority, Certificate
from maillab.site import resources

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl(1) is not on this machine"
)


class Workshop:
    """A mail host on this machine that stores its files in memory."""

    fqdn = "mx.test"

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def run_tool(self, *argv: str, stdin: str = "") -> Done:
        """Run a command on this machine, or a program of the mail host's image."""
        here = [word.replace("/opt/maillab/", f"{resources.images()}/postfix/") for word in argv]
        done = subprocess.run(here, input=stdin, capture_output=True, text=True, check=True)
        return Done(done.returncode, done.stdout, done.stderr)

    def write(self, path: str, content: str, **_: object) -> None:
        """Store a file's content."""
        self.files[path] = content


def new_authority() -> Authority:
    """Return an authority that no program trusts yet."""
    return Authority(lambda: [cast("PostfixHost", Workshop())])


def server_context(folder: Path, server: Certificate, *, trust: str = "") -> ssl.SSLContext:
    """Return the TLS settings of a server; with ``trust`` its clients need a certificate."""
    chain = folder / "chain.pem"
    chain.write_text(server.pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=trust or None)
    context.load_cert_chain(chain)
    if trust:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
