"""The channel of a withheld host does nothing and answers every operation."""

from __future__ import annotations

import pytest

from maillab.engine.channel import LATER, Channel
from maillab.errors import LabError
from maillab.hosts.withheld import WithheldChannel


@pytest.fixture
def withheld(monkeypatch: pytest.MonkeyPatch) -> WithheldChannel:
    """A channel to no container; opening it is an error."""

    def opened(channel: Channel) -> None:
        raise AssertionError("a withheld channel was opened")

    monkeypatch.setattr(Channel, "open", opened)
    return WithheldChannel(Channel("0123456789ab", "primary", ("machine", LATER, "disk")))


def test_each_operation_gives_its_empty_answer(withheld: WithheldChannel) -> None:
    """The answer has the fields that the operation declares."""
    assert withheld.call("run", argv=["true"]) == {"status": 0, "stdout": "", "stderr": ""}
    assert withheld.call("configure", settings={}) == {"unknown": []}
    assert withheld.call("free_space") == {"free_bytes": 0, "free_inodes": 0}
    assert withheld.call("mark", text="x") == {}


def test_begin_opens_no_channel_either(withheld: WithheldChannel) -> None:
    """The answer is there at once."""
    assert withheld.begin("collect").result() == {"mailboxes": [], "queued": [], "rewriting": {}}

    withheld.open_early()

    assert not withheld.used


def test_an_answer_can_be_changed_without_changing_the_next(withheld: WithheldChannel) -> None:
    withheld.call("collect")["queued"].append("spoilt")

    assert withheld.call("collect")["queued"] == []


def test_an_unknown_operation_is_an_error(withheld: WithheldChannel) -> None:
    """The error is the same as on a channel that is not withheld."""
    with pytest.raises(
        LabError, match="no program of the container has an operation 'connections_open'"
    ):
        withheld.call("connections_open")


def test_a_withheld_channel_can_be_withheld_again(withheld: WithheldChannel) -> None:
    assert WithheldChannel(withheld).call("stop") == {"was_running": False}
