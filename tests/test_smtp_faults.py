"""A fault of SMTP on its host, from what can be asked for to its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from smtp_scene import HERE, Real, Scene
from stories import run

import interception
import smtpserver
from maillab.errors import BadInput
from maillab.faults import Greeting, SmtpStage


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The packet filter's part in a fault, written down instead of done."""
    done: list[str] = []
    monkeypatch.setattr(interception, "nft", done.append)
    yield done
    smtpserver._faults.clear()


def test_the_fault_from_its_beginning_to_its_end(rules: list[str]) -> None:
    """Clients are led to it while it lasts; stopping twice is no error."""

    async def story() -> list[int]:
        number = (await smtpserver.smtp_fault_start(stage="greeting", reply="554 no"))["fault"]
        assert f"redirect to :{interception.FRONT.port}" in rules[0]
        # Nobody redirected this one, so where it wanted to go is where it is.
        scene = Scene(Real(), interception.FRONT)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(interception, "_meant", lambda _: (HERE, 1))
            assert (await scene.hears(b"QUIT\r\n")).startswith(b"554 no")
        answers = [await smtpserver.smtp_fault_stop(number) for _ in range(2)]
        return [answer["acted"] for answer in answers]

    assert run(story()) == [1, 0]
    assert rules[1:] == ["add table ip maillab_smtp; delete table ip maillab_smtp"]


def test_healing_lifts_every_fault(rules: list[str]) -> None:
    """A scenario that broke off leaves nothing."""

    async def story() -> None:
        for _ in range(2):
            await smtpserver.smtp_fault_start(stage="greeting", reply="554 no")
        await smtpserver.heal()
        assert not interception.FRONT.layers
        # Also what another program left, which died.
        rules.clear()
        await smtpserver.heal()

    run(story())

    assert rules == ["add table ip maillab_smtp; delete table ip maillab_smtp"]


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"stage": "VRFY", "then": "close"}, "it has: connect, greeting, EHLO"),
        ({"stage": "RCPT"}, "does nothing"),
        ({"stage": "RCPT", "reply": "no"}, "write a code and a text"),
        ({"stage": "RCPT", "reply": "450 a\r\n250 b"}, "write a code and a text"),
        ({"stage": "RCPT", "reply": "250-a\n550 b"}, "write a code and a text"),
        ({"stage": "RCPT", "then": "explode"}, "silence, close, reset"),
        ({"stage": "RCPT", "delay_s": -1}, "not below 0"),
        ({"stage": "RCPT", "then": "close", "every": 0}, "at least 1"),
        ({"stage": "connect", "reply": "220 hi"}, "the stage for that is 'greeting'"),
        ({"stage": "MAIL", "then": "close", "byte_interval_s": 1}, "no bytes"),
        ({"stage": "MAIL", "then": "close", "stored": True}, "'end of data'"),
        ({"stage": "end of data", "delay_s": 1, "stored": True}, "'then'"),
        ({"stage": "MAIL", "then": "close", "recipient": "a@x"}, "known at RCPT"),
        ({"stage": "MAIL", "then": "close", "sessions_max": 2}, "for connect and greeting"),
        ({"stage": "greeting", "then": "close", "sessions_max": -1}, "not below 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], advice: str) -> None:
    """Before anything is touched, with what would work."""
    with pytest.raises(BadInput, match="SmtpStage") as refused:
        SmtpStage(**settings)

    assert advice in str(refused.value)


def test_a_greeting_that_is_no_reply_is_refused() -> None:
    """As an SmtpStage is."""
    with pytest.raises(BadInput, match="write a code and a text"):
        Greeting("hello")
