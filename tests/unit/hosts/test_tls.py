"""The lab's certificate authority, and the agent's STARTTLS with its certificates."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

import smtpclient
from bounded import BOUND_S
from certificates import Workshop, needs_openssl, new_authority, server_context
from maillab.hosts.postfix import PostfixHost
from maillab.hosts.tls import Authority, Certificate

pytestmark = needs_openssl

HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return new_authority()


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
    """Run STARTTLS with a server on loopback, then NOOP; return replies and client name."""
    context = server_context(directory, server, trust=wants)
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

    async def actions() -> tuple[dict[str, Any], dict[str, Any]]:
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
    return *asyncio.run(actions()), seen


def test_a_session_can_be_in_tls_from_its_first_byte(tmp_path: Path, server: Certificate) -> None:
    """The greeting arrives inside; a server that speaks in clear has none."""
    context = server_context(tmp_path, server)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        await reader.read()
        writer.close()

    async def actions(*, inside: bool) -> dict[str, Any]:
        listener = await asyncio.start_server(serve, HERE, 0, ssl=context if inside else None)
        async with listener, asyncio.timeout(BOUND_S):
            port = listener.sockets[0].getsockname()[1]
            opened = await smtpclient.smtp_open(HERE, port, tls=True)
            await smtpclient.smtp_close(opened["session"])
        return opened

    inside, in_clear = asyncio.run(actions(inside=True)), asyncio.run(actions(inside=False))

    assert (inside["code"], inside["text"], in_clear["code"]) == (220, "hi", 0)
    assert inside["waited_s"] > 0


def test_a_client_that_trusts_the_authority_accepts_the_server(
    tmp_path: Path, authority: Authority, server: Certificate
) -> None:
    """The name matches, and the session continues encrypted."""
    started, after, _ = talk(tmp_path, server, trust=authority.pem)

    assert started == {"code": 220, "text": "go on"}
    assert after == {"code": 250, "text": "still here"}


def test_without_trust_any_server_is_accepted(tmp_path: Path, server: Certificate) -> None:
    """Opportunistic TLS, as between mail servers."""
    started, after, _ = talk(tmp_path, server, name="elsewhere.test")

    assert (started["code"], after["code"]) == (220, 250)


def test_a_server_with_another_name_is_refused(
    tmp_path: Path, authority: Authority, server: Certificate
) -> None:
    """The reply has code 0 and the reason, and the session sends nothing more."""
    started, after, _ = talk(tmp_path, server, name="elsewhere.test", trust=authority.pem)

    assert (started["code"], after["code"]) == (0, 0)
    assert "Hostname mismatch" in started["text"]


def test_a_server_of_another_authority_is_refused(tmp_path: Path, server: Certificate) -> None:
    """The name does not matter."""
    stranger = new_authority()

    started, after, _ = talk(tmp_path, server, trust=stranger.pem)

    assert (started["code"], after["code"]) == (0, 0)
    assert "certificate verify failed" in started["text"]


def test_a_client_may_present_its_own_certificate(
    tmp_path: Path, authority: Authority, server: Certificate
) -> None:
    """The server sees the name in the client's certificate."""
    mine = authority.issue("laptop.test")

    _, after, seen = talk(tmp_path, server, wants=authority.pem, certificate=mine.pem)

    assert (after["code"], seen) == (250, "laptop.test")
    assert len(mine.fingerprint.split(":")) == 32


def test_a_refused_starttls_is_a_reply(tmp_path: Path, server: Certificate) -> None:
    """The session continues in clear text."""
    started, after, _ = talk(tmp_path, server, answer="454 4.7.0 not now")

    assert started == {"code": 454, "text": "4.7.0 not now"}
    assert after["code"] == 250


def test_clients_do_not_get_the_authoritys_key(authority: Authority) -> None:
    """The certificate for clients contains no private key, and stays the same."""
    assert "PRIVATE" not in authority.pem
    assert authority.pem == authority.pem


def test_a_mail_host_gets_its_files_and_its_settings(authority: Authority) -> None:
    """Each setting names an existing file."""
    host = Workshop()

    settings = authority.certify(cast("PostfixHost", host))

    assert "PRIVATE KEY" in host.files[settings["smtpd_tls_chain_files"]]
    assert host.files[settings["smtpd_tls_CAfile"]] == authority.pem
    assert settings["smtpd_tls_security_level"] == "may"
