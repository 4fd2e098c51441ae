"""The lab's certificate authority, and the agent's STARTTLS with what it issues."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

import smtpclient
from maillab.host import Done
from maillab.postfix import MailHost
from maillab.tls import Authority, Certificate

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl(1) is not on this machine"
)

HERE = "127.0.0.1"
BOUND_S = 20.0


class Workshop:
    """A mail host that is this machine; its files are kept in mind."""

    fqdn = "mx.test"

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def run(self, *argv: str, stdin: str = "") -> Done:
        """Run a command here."""
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=True)
        return Done(done.returncode, done.stdout, done.stderr)

    def write(self, path: str, content: str, **_: object) -> None:
        """Keep a file's content."""
        self.files[path] = content


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(lambda: [cast("MailHost", Workshop())])


@pytest.fixture(scope="module")
def server(authority: Authority) -> Certificate:
    return authority.issue("mx.test")


def talk(
    directory: Path,
    server: Certificate,
    *,
    wants: str = "",
    answer: str = "220 go on",
    **client: str,
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """STARTTLS with a server on the loopback, then NOOP; both replies, and who it saw."""
    chain = directory / "chain.pem"
    chain.write_text(server.pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=wants or None)
    context.load_cert_chain(chain)
    if wants:
        context.verify_mode = ssl.CERT_REQUIRED
    seen = ""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        writer.write(b"220 hi\r\n")
        assert await reader.readline() == b"STARTTLS\r\n"
        writer.write(f"{answer}\r\n".encode())
        try:
            if answer.startswith("220"):
                await writer.start_tls(context)
                peer = writer.get_extra_info("peercert") or {}
                seen = dict(pair for (pair,) in peer.get("subject", ())).get("commonName", "")
            if await reader.readline() == b"NOOP\r\n":
                writer.write(b"250 still here\r\n")
                await reader.read()
        except OSError:
            pass
        finally:
            writer.close()
            gone.set()

    async def story() -> tuple[dict[str, Any], dict[str, Any]]:
        listener = await asyncio.start_server(serve, HERE, 0)
        async with listener, asyncio.timeout(BOUND_S):
            opened = await smtpclient.smtp_open(HERE, listener.sockets[0].getsockname()[1])
            number = opened["session"]
            started = await smtpclient.smtp_starttls(number, **{"name": "mx.test", **client})
            after = await smtpclient.smtp_command(number, "NOOP")
            await smtpclient.smtp_close(number)
            await gone.wait()
        return started, after

    gone = asyncio.Event()
    return *asyncio.run(story()), seen


def test_whoever_trusts_the_authority_believes_the_server(
    tmp_path: Path, authority: Authority, server: Certificate
) -> None:
    """The name fits, and the session goes on inside."""
    started, after, _ = talk(tmp_path, server, trust=authority.pem)

    assert started == {"code": 220, "text": "go on"}
    assert after == {"code": 250, "text": "still here"}


def test_without_trust_any_server_will_do(tmp_path: Path, server: Certificate) -> None:
    """Opportunistic, as between mail servers."""
    started, after, _ = talk(tmp_path, server, name="elsewhere.test")

    assert (started["code"], after["code"]) == (220, 250)


def test_a_server_with_another_name_is_left(
    tmp_path: Path, authority: Authority, server: Certificate
) -> None:
    """Code 0 with the reason, and nothing more is said in that session."""
    started, after, _ = talk(tmp_path, server, name="elsewhere.test", trust=authority.pem)

    assert (started["code"], after["code"]) == (0, 0)
    assert "Hostname mismatch" in started["text"]


def test_a_server_of_another_authority_is_left(tmp_path: Path, server: Certificate) -> None:
    """Whatever its name is."""
    stranger = Authority(lambda: [cast("MailHost", Workshop())])

    started, after, _ = talk(tmp_path, server, trust=stranger.pem)

    assert (started["code"], after["code"]) == (0, 0)
    assert "certificate verify failed" in started["text"]


def test_a_client_may_show_a_certificate_of_its_own(
    tmp_path: Path, authority: Authority, server: Certificate
) -> None:
    """The server sees for whom it was issued."""
    mine = authority.issue("laptop.test")

    _, after, seen = talk(tmp_path, server, wants=authority.pem, certificate=mine.pem)

    assert (after["code"], seen) == (250, "laptop.test")
    assert len(mine.fingerprint.split(":")) == 32


def test_a_refused_starttls_is_a_reply(tmp_path: Path, server: Certificate) -> None:
    """And the session goes on in clear."""
    started, after, _ = talk(tmp_path, server, answer="454 4.7.0 not now")

    assert started == {"code": 454, "text": "4.7.0 not now"}
    assert after["code"] == 250


def test_the_authoritys_key_stays_with_it(authority: Authority) -> None:
    """What others are given to trust holds nothing secret, and stays the same."""
    assert "PRIVATE" not in authority.pem
    assert authority.pem == authority.pem


def test_a_mail_host_gets_its_files_and_its_settings(authority: Authority) -> None:
    """Each setting names a file that is there."""
    host = Workshop()

    settings = authority.certify(cast("MailHost", host))

    assert "PRIVATE KEY" in host.files[settings["smtpd_tls_chain_files"]]
    assert host.files[settings["smtpd_tls_CAfile"]] == authority.pem
    assert settings["smtpd_tls_security_level"] == "may"
