"""A fault of SMTP on its host, from its settings to its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import interception
import smtpserver
from bounded import run
from interception import TABLE
from maillab.errors import BadInput
from maillab.faults import Greeting, SmtpStage
from operations import program
from smtp_scene import HERE, Real, Scene


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Record the rules of the packet filter, and apply none."""
    done: list[str] = []
    monkeypatch.setattr(interception, "nft", done.append)
    monkeypatch.setattr(interception, "has_ipv6", lambda: False)
    yield done
    smtpserver._faults.forget()


def test_a_fault_from_start_to_stop(rules: list[str]) -> None:
    """Clients reach the fault while it is in force; stopping it twice is no error."""

    async def actions() -> list[int]:
        number = (await smtpserver.smtp_fault_start(stage="greeting", reply="554 no"))["fault"]
        assert f"redirect to :{interception.FRONT.port}" in rules[0]
        # No redirect is in place, so the address that the client wanted is this server's own.
        scene = Scene(Real(), interception.FRONT)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(interception, "_meant", lambda _: (HERE, 1))
            assert (await scene.hears(b"QUIT\r\n")).startswith(b"554 no")
        answers = [await smtpserver.smtp_fault_stop(number) for _ in range(2)]
        return [answer["acted"] for answer in answers]

    assert run(actions()) == [1, 0]
    assert rules[1:] == [f"add table ip {TABLE}; delete table ip {TABLE}"]


def test_undo_lifts_every_fault(rules: list[str]) -> None:
    """A scenario that broke off leaves nothing."""

    async def actions() -> None:
        for _ in range(2):
            await smtpserver.smtp_fault_start(stage="greeting", reply="554 no")
        await program("smtpserver").undo()
        assert not interception.FRONT.layers
        # Rules of a program that died are removed, too.
        rules.clear()
        await program("smtpserver").undo()

    run(actions())

    assert rules == [f"add table ip {TABLE}; delete table ip {TABLE}"]


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (
            {"stage": "VRFY", "then": "close"},
            "unknown stage 'VRFY' (choose from connect, greeting, EHLO",
        ),
        ({"stage": "RCPT"}, "does nothing"),
        ({"stage": "RCPT", "reply": "no"}, "must be a code and a text"),
        ({"stage": "RCPT", "reply": "450 a\r\n250 b"}, "must be a code and a text"),
        ({"stage": "RCPT", "reply": "250-a\n550 b"}, "must be a code and a text"),
        ({"stage": "RCPT", "then": "explode"}, "choose from silence, close, reset"),
        ({"stage": "RCPT", "delay_s": -1}, "must be >= 0"),
        ({"stage": "RCPT", "then": "close", "every": 0}, "every must be 1 to 100000, not 0"),
        ({"stage": "connect", "reply": "220 hi"}, "choose the stage 'greeting'"),
        ({"stage": "MAIL", "then": "close", "byte_interval_s": 1}, "byte_interval_s needs a reply"),
        ({"stage": "MAIL", "then": "close", "stored": True}, "'end of data'"),
        ({"stage": "end of data", "delay_s": 1, "stored": True}, "'then'"),
        ({"stage": "MAIL", "then": "close", "recipient": "a@x"}, "needs one of the stages RCPT"),
        (
            {"stage": "MAIL", "then": "close", "sessions_max": 2},
            "needs the stage connect or greeting",
        ),
        ({"stage": "greeting", "then": "close", "sessions_max": -1}, "sessions_max must be >= 0"),
        ({"stage": "MAIL", "then": "close", "port": 26}, "port must be 25, 587"),
        ({"stage": "AUTH", "then": "close"}, "the stage AUTH needs port=587"),
        ({"stage": "STARTTLS", "then": "close", "port": 465}, "no STARTTLS at port 465"),
        ({"stage": "STARTTLS", "delay_s": 1, "port": 587}, "needs a reply or a 'then'"),
        ({"stage": "AUTH", "reply": "235 welcome", "port": 465}, "reply must refuse"),
        ({"stage": "MAIL", "reply": "450 x", "byte_interval_s": 1, "port": 465}, "needs port=25"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], advice: str) -> None:
    """The error comes before any host is touched, and says what is allowed."""
    with pytest.raises(BadInput, match="SmtpStage") as refused:
        SmtpStage(**settings)

    assert advice in str(refused.value)


def test_a_greeting_that_is_no_reply_is_refused() -> None:
    """The error is the same as SmtpStage's."""
    with pytest.raises(BadInput, match="must be a code and a text"):
        Greeting("hello")
