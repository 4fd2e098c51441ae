"""The documented tree of errors is the real one; libraries' errors become one of ours."""

from __future__ import annotations

import re

import pytest
import requests
from docker.errors import APIError, DockerException

from maillab import errors
from maillab.engine import client
from maillab.errors import EngineGone, HostGone, MaillabError, NoDisk, NoEngine


def test_the_tree_of_errors_is_the_documented_one() -> None:
    """Every class, its parent by indentation, and its exit code."""
    assert errors.__doc__
    written: dict[str, tuple[str, int]] = {}
    above = [("Exception", 1)]
    for margin, name, code in re.findall(
        r"(?m)^    ([│├└─ ]*)([A-Z]\w+) +(\d*)(?=\s)", errors.__doc__
    ):
        above = above[: len(margin) // 4 + 1]
        parent, inherited = above[-1]
        above.append((name, int(code or inherited)))
        written[name] = (parent, above[-1][1])

    assert written == {
        name: (thing.__mro__[1].__name__, thing.exit_code)
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, MaillabError)
    }


def api_error(words: str) -> APIError:
    """Return the error that the SDK raises when the engine refuses."""
    return APIError("500 Server Error", explanation=words)


@pytest.mark.parametrize(
    ("raised", "ours", "words"),
    [
        (api_error("no such container"), HostGone, "doing it: the engine refused: no such"),
        (api_error("write /x: no space left on device"), NoDisk, "doing it: no space left"),
        (api_error("mkdir: No Space Left On Device"), NoDisk, "free some"),
        (requests.exceptions.ConnectionError("x"), EngineGone, "doing it: the Docker engine went"),
        (requests.exceptions.ConnectTimeout("x"), EngineGone, "maillab sweep"),
        (requests.exceptions.ReadTimeout("x"), NoEngine, "within 120 s; restart it"),
        (DockerException("x"), EngineGone, "went away (DockerException)"),
        (ConnectionResetError("x"), EngineGone, "went away (ConnectionResetError)"),
    ],
)
def test_errors_of_libraries_become_ours(
    raised: Exception, ours: type[MaillabError], words: str
) -> None:
    """The message names the attempted action, and the cause is chained."""
    with pytest.raises(ours) as error, client.engine_errors("doing it"):
        raise raised

    assert type(error.value) is ours
    assert words in str(error.value)
    assert error.value.__cause__ is raised


@pytest.mark.parametrize("raised", [KeyError("x"), HostGone("x"), KeyboardInterrupt()])
def test_other_errors_pass_unchanged(raised: BaseException) -> None:
    """Our own errors and programming errors pass unchanged."""
    with pytest.raises(type(raised)) as error, client.engine_errors("doing it"):
        raise raised

    assert error.value is raised
