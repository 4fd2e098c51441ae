"""The agent's middleboxes: their bytes alone, and between a client and a server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiosmtplib
import pytest
from hypothesis import given
from hypothesis import strategies as st

import interception
import middlebox
from bounded import BOUND_S, run
from interception import LINE_BYTES_MAX, Front
from maillab.errors import BadInput
from maillab.faults import ExtensionRewriter, Pix, StarttlsStripper
from middlebox import KINDS, Conversation, Middlebox

HERE = "127.0.0.1"
PIX = {
    "masks_banner": True,
    "blocks_esmtp": True,
    "swallows_dot": True,
    "swallows_split_dot": True,
}
EHLO = b"250-mx.test\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-STARTTLS\r\n250 DSN\r\n"
MESSAGE = b"a: b\r\n\r\n..dot\r\ntext\r\n.\r\n"


def conversation(kind: str, **settings: Any) -> Conversation:
    """Return a session through a middlebox."""
    of = KINDS[kind]
    return of(dict.fromkeys(of.COUNTS, 0), **settings)


def greeted(kind: str, **settings: Any) -> Conversation:
    """Return the same after the greeting."""
    session = conversation(kind, **settings)
    session.from_server(b"220 mx.test ESMTP\r\n")
    return session


def in_data(kind: str, **settings: Any) -> Conversation:
    """Return the same after the reply to DATA."""
    session = greeted(kind, **settings)
    for line in (b"HELO me", b"MAIL FROM:<>", b"RCPT TO:<x@y>"):
        assert session.from_client(line + b"\r\n") == line + b"\r\n"
        session.from_server(b"250 ok\r\n")
    assert session.from_client(b"DATA\r\n") == b"DATA\r\n"
    session.from_server(b"354 go on\r\n")
    return session


# PIX.


def test_a_banner_becomes_stars_that_postfix_knows() -> None:
    """smtp_proto.c takes a greeting of nothing but stars, 2, 0 and blanks for a PIX."""
    session = conversation("Pix", **PIX)

    shown = session.from_server(b"220 mx2.test ESMTP 2026\r\n")

    assert shown == b"220 **2***** ***** 202*\r\n"
    assert not shown.strip(b"20 *\r\n")
    assert session.counts["banners masked"] == 1


@pytest.mark.parametrize("verb", [b"EHLO", b"STARTTLS", b"AUTH", b"BDAT", b"ehlo", b"VRFY"])
def test_commands_beyond_the_minimum_are_blocked(verb: bytes) -> None:
    """The server gets X for each letter."""
    session = greeted("Pix", **PIX)

    assert session.from_client(verb + b" me 5\r\n") == b"X" * len(verb) + b" me 5\r\n"
    assert session.counts["commands blocked"] == 1


@pytest.mark.parametrize("verb", [b"HELO me", b"helo me", b"MAIL FROM:<>", b"RSET", b"QUIT"])
def test_the_minimum_passes(verb: bytes) -> None:
    """The commands are unchanged."""
    session = greeted("Pix", **PIX)

    assert session.from_client(verb + b"\r\n") == verb + b"\r\n"
    assert session.counts["commands blocked"] == 0


def test_an_end_of_data_in_the_messages_packet_is_swallowed() -> None:
    """The server waits for an end of data, and gets none."""
    session = in_data("Pix", **PIX)

    assert session.from_client(MESSAGE) == MESSAGE[:-3]
    assert session.waits_in_vain
    assert session.counts["ends of data swallowed"] == 1


def test_an_end_of_data_of_its_own_passes() -> None:
    """The session continues, and the next message meets the bug again."""
    session = in_data("Pix", **PIX)

    assert session.from_client(MESSAGE[:-3]) == MESSAGE[:-3]
    assert session.from_client(b".\r\n") == b".\r\n"
    assert not session.waits_in_vain
    session.from_server(b"250 queued\r\n")
    assert session.from_client(b"VRFY x\r\n") == b"XXXX x\r\n"
    session.from_server(b"500 what\r\n")
    session.from_client(b"DATA\r\n")
    session.from_server(b"354 go on\r\n")
    assert session.from_client(b"x\r\n.\r\n") == b"x\r\n"


@pytest.mark.parametrize("swallows", [True, False])
def test_a_session_waits_in_vain_for_a_line_end_that_is_lost(swallows: bool) -> None:  # noqa: FBT001
    """The packet filter drops the line end of a split dot if the PIX has that bug."""
    session = in_data("Pix", **PIX | {"swallows_dot": False, "swallows_split_dot": swallows})

    assert session.from_client(MESSAGE[:-2]) == MESSAGE[:-2]
    assert session.waits_in_vain == swallows
    # If the line end arrives all the same, the session goes on.
    assert session.from_client(b"\r\n") == b"\r\n"
    assert not session.waits_in_vain


@pytest.mark.parametrize("setting", ["masks_banner", "blocks_esmtp", "swallows_dot"])
def test_each_part_can_be_left_out(setting: str) -> None:
    """That part of the session is then unchanged."""
    settings = PIX | {setting: False}
    banner = conversation("Pix", **settings).from_server(b"220 mx ESMTP\r\n")
    asked = greeted("Pix", **settings).from_client(b"EHLO me\r\n")
    sent = in_data("Pix", **settings).from_client(MESSAGE)

    assert (banner == b"220 mx ESMTP\r\n") == (setting == "masks_banner")
    assert (asked == b"EHLO me\r\n") == (setting == "blocks_esmtp")
    assert (sent == MESSAGE) == (setting == "swallows_dot")


# STARTTLS.


def test_starttls_is_neither_offered_nor_accepted() -> None:
    """The last line of the reply still has the form of a last line."""
    session = greeted("StarttlsStripper", offers=False)

    session.from_client(b"EHLO me\r\n")
    assert session.from_server(EHLO) == EHLO.replace(b"250-STARTTLS\r\n", b"")
    session.from_client(b"EHLO me\r\n")
    assert session.from_server(b"250-mx\r\n250 STARTTLS\r\n") == b"250 mx\r\n"
    assert session.from_client(b"STARTTLS\r\n") == b"XXXXXXXX\r\n"
    assert session.counts == {"offers stripped": 2, "commands blocked": 1}


def test_starttls_may_be_offered_and_then_fail() -> None:
    """The client learns that later."""
    session = greeted("StarttlsStripper", offers=True)

    session.from_client(b"EHLO me\r\n")
    assert session.from_server(EHLO) == EHLO
    assert session.from_client(b"starttls\r\n") == b"XXXXXXXX\r\n"


# Extensions.


@pytest.mark.parametrize(
    ("extension", "becomes", "before", "after"),
    [
        ("SIZE", "SIZE 10", b"250-SIZE 10240000", b"250-SIZE 10"),
        ("dsn", "XDSN", b"250 DSN", b"250 XDSN"),
        ("DSN", "", b"250-STARTTLS\r\n250 DSN", b"250 STARTTLS"),
        ("PIPELINING", "", b"250-PIPELINING\r\n", b""),
        ("MX.TEST", "other", b"", b""),
        ("8BITMIME", "x", b"", b""),
    ],
)
def test_one_extension_is_rewritten(
    extension: str, becomes: str, before: bytes, after: bytes
) -> None:
    """Other extensions and the server's name stay; nothing is added."""
    session = greeted("ExtensionRewriter", extension=extension, becomes=becomes)

    session.from_client(b"EHLO me\r\n")
    assert session.from_server(EHLO) == EHLO.replace(before, after)
    assert session.counts["replies rewritten"] == bool(before)


def test_text_that_only_looks_like_an_extension_is_unchanged() -> None:
    """Replies are matched with their commands, pipelined or not."""
    session = greeted("ExtensionRewriter", extension="SIZE", becomes="SIZE 1")

    session.from_client(b"NOOP\r\nEHLO me\r\nHELP\r\n")
    shown = session.from_server(b"250-ok\r\n250 SIZE 9\r\n" + b"250-mx\r\n250 SIZE 9\r\n")
    shown += session.from_server(b"250-help\r\n250 SIZE 9\r\n")

    assert shown.splitlines()[1::2] == [b"250 SIZE 9", b"250 SIZE 1", b"250 SIZE 9"]


# Any bytes.


def test_inside_tls_nothing_changes() -> None:
    """The server agreed to TLS, so the box cannot read what follows."""
    session = greeted("ExtensionRewriter", extension="SIZE", becomes="")

    session.from_client(b"STARTTLS\r\n")
    session.from_server(b"220 go\r\n")
    assert session.from_client(b"\x16\x03EHLO") == b"\x16\x03EHLO"
    assert session.from_server(b"250 SIZE\r\n\x16") == b"250 SIZE\r\n\x16"


def test_a_chunk_is_not_read_as_commands() -> None:
    """BDAT (RFC 3030) gives the number of bytes to leave alone."""
    session = greeted("StarttlsStripper", offers=False)

    chunk = b"BDAT 10 LAST\r\nSTARTTLS\r\n"
    assert session.from_client(chunk + b"STARTTLS\r\n") == chunk + b"XXXXXXXX\r\n"


@given(st.lists(st.binary(min_size=1, max_size=9)), st.data())
def test_a_dialogue_in_any_pieces_passes_unchanged(lines: list[bytes], data: st.DataObject) -> None:
    """A middlebox that finds nothing to change is invisible, whatever the message."""
    message = b"".join(b"x" + line.replace(b"\n", b"") + b"\r\n" for line in lines) + b".\r\n"
    session = in_data("ExtensionRewriter", extension="NONE", becomes="")
    sent = message + b"QUIT\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=5)))

    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]

    assert b"".join(map(session.from_client, pieces)) == sent
    assert session.from_server(b"250 queu") + session.from_server(b"ed\r\n") == b"250 queued\r\n"


ENDLESS = 3 * LINE_BYTES_MAX * b"x"


def test_a_line_without_end_passes_and_is_not_kept() -> None:
    """This is not SMTP; from then on the middlebox changes nothing."""
    session = greeted("StarttlsStripper", offers=False)
    session.from_server(b"250-half a re")
    parts = [ENDLESS[at : at + 5000] for at in range(0, len(ENDLESS), 5000)]

    passed = b"".join(map(session.from_client, parts))

    assert passed == ENDLESS
    assert not session._from_client
    assert session.from_client(b"\r\nSTARTTLS\r\n") == b"\r\nSTARTTLS\r\n"
    assert session.from_server(b"ply\r\n") == b"250-half a reply\r\n"


@pytest.mark.parametrize("unit", [b"x", b"250-x\r\n"])
def test_a_reply_without_end_passes_and_is_not_kept(unit: bytes) -> None:
    """The reply is one long line, or very many lines."""
    session = greeted("StarttlsStripper", offers=False)
    parts = [1000 * unit] * 300

    assert b"".join(map(session.from_server, parts)) == b"".join(parts)
    assert not session._from_server
    assert not session._reply


@pytest.mark.parametrize("reply", [b"250 STARTTLS\r\n", b"250-STARTTLS\r\n250 STARTTLS\r\n"])
def test_the_first_line_of_a_reply_to_ehlo_is_no_extension(reply: bytes) -> None:
    """It is the server's name, whatever that is."""
    session = greeted("StarttlsStripper", offers=False)
    session.from_client(b"EHLO me\r\n")

    assert session.from_server(reply) == b"250 STARTTLS\r\n"


@given(
    st.sampled_from([("Pix", PIX), ("StarttlsStripper", {"offers": False}),
                     ("ExtensionRewriter", {"extension": "DSN", "becomes": ""})]),
    st.lists(st.tuples(st.booleans(), st.binary(max_size=20) | st.sampled_from(
        [b"EHLO x\r\n", b"BDAT 9\r\n", b"BDAT " + b"9" * 5000 + b"\r\n", b"STARTTLS\r\n",
         b"DATA\r\n", b"250-STARTTLS\r\n", b"250 DSN\r\n", b"354\r\n", b"\r\n.\r\n", b"\n"]
    )), max_size=12),
)  # fmt: skip
def test_a_box_survives_any_input(
    box: tuple[str, dict[str, Any]], pieces: list[tuple[bool, bytes]]
) -> None:
    """Bytes that are not SMTP end no session."""
    session = conversation(box[0], **box[1])
    for from_client, data in pieces:
        (session.from_client if from_client else session.from_server)(data)


# Between a client and a server.


@asynccontextmanager
async def between(box: Middlebox) -> AsyncIterator[tuple[Front, list[bytes]]]:
    """Start a small server behind a middlebox; yield the front and the server's input."""
    heard: list[bytes] = []
    sessions: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        sessions.add(task)
        writer.write(b"220 mx.test ESMTP\r\n")
        while line := await reader.readline():
            heard.append(line)
            verb = line.split()[0].upper()
            if verb == b"EHLO":
                writer.write(EHLO)
            elif verb == b"DATA":
                writer.write(b"354 go on\r\n")
                try:
                    heard.append(await reader.readuntil(b"\r\n.\r\n"))
                except asyncio.IncompleteReadError as error:
                    heard.append(error.partial)
                    break
                writer.write(b"250 queued\r\n")
            elif verb.startswith(b"X"):
                writer.write(b"500 what\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 ok\r\n")
        writer.close()

    async with await asyncio.start_server(serve, HERE, 0) as server:
        front = Front(server.sockets[0].getsockname()[:2])
        await front.insert(box)
        try:
            yield front, heard
        finally:
            await front.clear()
            await asyncio.gather(*sessions)


def client_of(front: Front, timeout_s: float = BOUND_S) -> aiosmtplib.SMTP:
    """Return a client of aiosmtplib, not yet connected."""
    return aiosmtplib.SMTP(hostname=HERE, port=front.port, timeout=timeout_s, start_tls=False)


def test_a_client_falls_back_to_helo() -> None:
    """It falls back to HELO; the message passes if the dot does."""

    async def actions() -> tuple[list[bytes], Middlebox]:
        box = Middlebox("Pix", PIX | {"swallows_dot": False})
        async with between(box) as (front, heard), client_of(front) as client:
            await client.sendmail("a@x.test", ["b@y.test"], b"text\r\n")
        return heard, box

    heard, box = run(actions())

    assert heard[0].startswith(b"XXXX ")
    assert heard[1].startswith(b"HELO ")
    assert b"text\r\n.\r\n" in heard
    assert box.counts["commands blocked"] == 1


def test_a_client_times_out_after_a_swallowed_dot() -> None:
    """It waits until its timeout; the server has everything except the dot."""

    async def actions() -> list[bytes]:
        async with between(Middlebox("Pix", PIX)) as (front, heard):
            client = client_of(front, timeout_s=0.3)
            with pytest.raises(aiosmtplib.SMTPReadTimeoutError):
                async with client:
                    await client.sendmail("a@x.test", ["b@y.test"], b"text\r\n")
        return heard

    assert run(actions())[-1] == b"text\r\n"


def test_lifting_ends_only_the_stuck_sessions() -> None:
    """Another session continues through the middlebox to its end."""

    async def actions() -> tuple[bytes, bytes]:
        box = Middlebox("Pix", PIX)
        async with between(box) as (front, _):
            stuck_in, stuck_out = await asyncio.open_connection(HERE, front.port)
            well_in, well_out = await asyncio.open_connection(HERE, front.port)
            for reader in (stuck_in, well_in):
                assert b"*" in await reader.readline()
            stuck_out.write(b"DATA\r\n")
            await stuck_in.readline()
            stuck_out.write(b"x\r\n.\r\n")
            while not box.counts["ends of data swallowed"]:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.01)
            await front.remove(box)
            stuck_output = await stuck_in.read()
            well_out.write(b"EHLO me\r\nQUIT\r\n")
            well_output = await well_in.read()
            stuck_out.close()
            well_out.close()
        return stuck_output, well_output

    assert run(actions()) == (b"", b"500 what\r\n221 bye\r\n")


def test_a_client_that_pipelines_and_half_closes_gets_all_replies() -> None:
    """The half-close is passed on."""

    async def actions() -> bytes:
        box = Middlebox("ExtensionRewriter", {"extension": "SIZE", "becomes": ""})
        async with between(box) as (front, _):
            reader, writer = await asyncio.open_connection(HERE, front.port)
            writer.write(b"NOOP\r\nNOOP\r\n")
            writer.write_eof()
            received = await reader.read()
            writer.close()
        return received

    assert run(actions()).count(b"\r\n") == 3


def test_a_box_from_start_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the packet filter while in force; stopping it twice is no error."""
    done: list[str] = []
    monkeypatch.setattr(interception, "nft", done.append)

    async def actions() -> list[dict[str, Any]]:
        number = (await middlebox.middlebox_start("StarttlsStripper", {"offers": False}))["box"]
        assert "redirect" in done[0]
        return [await middlebox.middlebox_stop(number) for _ in range(2)]

    stripped = {"offers stripped": 0, "commands blocked": 0}
    assert run(actions()) == [{"counts": stripped}, {"counts": {}}]
    assert "delete table" in done[-1]


@pytest.mark.parametrize(
    ("fault", "settings"),
    [
        (Pix, {"masks_banner": False, "blocks_esmtp": False, "swallows_split_dot": False}),
        (ExtensionRewriter, {"extension": ""}),
        (ExtensionRewriter, {"extension": "SIZE 10"}),
        (ExtensionRewriter, {"extension": "SIZE", "becomes": "SIZE 10\r\n250 X"}),
    ],
)
def test_impossible_settings_are_refused(fault: type[object], settings: dict[str, Any]) -> None:
    """The error comes before any host is touched."""
    with pytest.raises(BadInput, match=fault.__name__):
        fault(**settings)


def test_the_stripper_has_one_setting() -> None:
    """It also works without."""
    assert StarttlsStripper() == StarttlsStripper(offers=False)
