"""An engine that stops answering or goes away while a lab is up. Needs an engine."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_proxy import EngineProxy, in_front_of_the_engine
from maillab.engine import client, compose
from maillab.errors import EngineSilent, NoEngine

HERE = Path(__file__).parent

SCENARIO = """
import os, sys
import pytest
from maillab.engine import client

client._LOOK_AFTER_S, client._LOOK_WITHIN_S, client._SILENT_MAX_S = 0.5, 1, 2.0

@pytest.mark.topology("standalone")
@pytest.mark.parametrize("number", range(4))
def test_behaviour_it(lab, number):
    lab.settle(lab.mail.send(to="alice@example.com"))
    if number == 1:
        open("reached", "w").close()
        os.open("go", os.O_RDONLY)  # a pipe: until the engine has gone
        lab.mail.run("true")
"""


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineProxy]:
    with in_front_of_the_engine() as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.address)
        monkeypatch.setattr(client, "_connect", functools.cache(client._connect.__wrapped__))
        monkeypatch.setattr(client, "VIGIL", client._Vigil())
        yield proxy
        monkeypatch.undo()
    compose.sweep()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the messages about a silent engine, with all waits shortened."""
    messages: list[str] = []
    monkeypatch.setattr(client.VIGIL, "say", messages.append)
    monkeypatch.setattr(client, "_LOOK_AFTER_S", 0.1)
    monkeypatch.setattr(client, "_LOOK_WITHIN_S", 1)
    monkeypatch.setattr(client, "_SILENT_MAX_S", 1.5)
    return messages


def test_a_silent_engine_is_reported_and_given_up(proxy: EngineProxy, impatient: list[str]) -> None:
    """The first request waits and then fails; the engine may come back."""
    proxy.fall_silent()
    with pytest.raises(EngineSilent, match=r"has not answered for [2-9]+ s; restart it"):
        client.connect()
    assert impatient == [
        f"the Docker engine at {proxy.address} does not answer; waiting for it up to 2 s"
    ]

    proxy.speak_again()
    assert client.connect().ping()


def test_a_request_under_way_is_given_up_too(proxy: EngineProxy, impatient: list[str]) -> None:
    """API requests and Compose are given up after the limit."""
    connected = client.connect()
    site = HERE.parents[1] / "compose/standalone.yaml"
    starting = compose.LabCompose("maillab_none_1", site, {"NET": "x"})
    proxy.fall_silent()

    with pytest.raises(NoEngine, match="has not answered"):
        connected.containers.list()
    with pytest.raises(NoEngine, match="has not answered"):
        starting.start()

    assert len(impatient) == 1


def test_a_slow_answer_of_an_engine_that_answers_others_is_waited_for(
    proxy: EngineProxy, impatient: list[str]
) -> None:
    """A slow answer is not reported while the engine answers other requests."""
    api = client.connect().api
    kept = subprocess.Popen(["sleep", "3"])

    assert client.patiently(kept.wait) == 0

    assert api.ping()
    assert impatient == []


@pytest.mark.parametrize(
    ("what", "status", "workers"), [("go_away", 17, ["-n", "2"]), ("fall_silent", 10, [])]
)
def test_a_run_ends_in_one_line(
    proxy: EngineProxy, tmp_path: Path, what: str, status: int, workers: list[str]
) -> None:
    """The run exits with the status of the engine's failure, during any step."""
    (tmp_path / "test_it.py").write_text(SCENARIO)
    os.mkfifo(tmp_path / "go")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers]

    with subprocess.Popen(
        command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as running:
        # Opens when the test waits at the other end.
        with (tmp_path / "go").open("w"):
            getattr(proxy, what)()
        output, _ = running.communicate()

    assert running.returncode == status, output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output
    reasons = [line for line in output.splitlines() if line.startswith("!")]
    assert len(reasons) == 1, output
    assert "Docker engine" in reasons[0]
