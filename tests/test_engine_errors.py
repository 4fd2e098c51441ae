"""What is wrong with an engine, an image or a machine is said plainly, and by its own error."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import http.server
import io
import json
import re
import shutil
import socket
import socketserver
import stat
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from docker.errors import APIError, DockerException

from maillab import errors, resources, topology
from maillab.engine import bootstrap, client, compose, images
from maillab.engine.images import Image
from maillab.errors import (
    EngineTooOld,
    HostGone,
    ImageError,
    MaillabError,
    NoDisk,
    NoEngine,
    NoRights,
    UnknownName,
)

# How long two who are kept apart are waited for; never reached by two who are not.
KEPT_APART_S = 0.3


# The errors themselves.


def test_the_tree_of_errors_is_the_one_that_is_written_down() -> None:
    """Every class, its parent by the indentation, its exit code."""
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


# Finding the engine.


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test finds its own engine, and leaves the one of other tests alone."""
    monkeypatch.setattr(client, "_connect", functools.cache(client._connect.__wrapped__))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)


LEFT_OPEN = "ignore:unclosed:ResourceWarning"


@pytest.fixture
def _sdk_leaves_sockets() -> Iterator[None]:
    """The SDK does not close a socket that could not connect; see to it now, not later."""
    yield
    gc.collect()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, since that of a socket has a limit."""
    with tempfile.TemporaryDirectory(prefix="ml-") as name:
        yield Path(name)


@pytest.fixture
def engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Have DOCKER_HOST name an engine of an API version."""
    stops = []

    def start(version: str) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"ApiVersion": version, "Version": "1"}).encode()
                self.send_response(200 if self.path.endswith("/version") else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = socketserver.ThreadingUnixStreamServer(str(folder / "docker.sock"), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        stops.extend([server.shutdown, thread.join, server.server_close])
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/docker.sock")

    yield start
    for stop in stops:
        stop()


def test_an_engine_that_is_new_enough_is_used(engine: Callable[[str], None]) -> None:
    """Asked once: a second call gives the same client."""
    engine("1.41")

    found = client.connect()

    assert client.connect() is found
    found.close()


@pytest.mark.parametrize("version", ["1.40", "1.24"])
def test_an_engine_that_is_too_old_is_told_so(engine: Callable[[str], None], version: str) -> None:
    """With its version, the one that is needed, and what to do."""
    engine(version)

    with pytest.raises(EngineTooOld) as error:
        client.connect()

    assert version in str(error.value)
    assert "1.41" in str(error.value)
    assert "upgrade the engine" in str(error.value)


@pytest.mark.filterwarnings(LEFT_OPEN)
@pytest.mark.usefixtures("_sdk_leaves_sockets")
@pytest.mark.parametrize(
    "host",
    ["unix:///no/such/docker.sock", "tcp://127.0.0.1:1", "nonsense://x", "what"],
)
def test_where_no_engine_answers_one_is_told_how_to_get_one(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where it was looked for."""
    monkeypatch.setenv("DOCKER_HOST", host)

    with pytest.raises(NoEngine) as error:
        client.connect()

    assert not isinstance(error.value, NoRights | EngineTooOld)
    assert host in str(error.value)
    assert "install Docker Engine" in str(error.value)
    assert ("Connection refused" in str(error.value)) == host.startswith("tcp:")
    assert "DOCKER_HOST" in str(error.value)


@pytest.mark.filterwarnings(LEFT_OPEN)
@pytest.mark.usefixtures("_sdk_leaves_sockets")
def test_something_else_that_answers_there_is_no_engine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a server that hangs up."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/docker.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "docker.sock"))
        listening.listen()

        def hang_up() -> None:
            caller, _ = listening.accept()
            caller.close()

        hanging_up = threading.Thread(target=hang_up)
        hanging_up.start()

        with pytest.raises(NoEngine, match="no Docker engine answers"):
            client.connect()

        hanging_up.join()


@pytest.mark.filterwarnings(LEFT_OPEN)
@pytest.mark.usefixtures("_sdk_leaves_sockets")
def test_an_engine_that_lets_nobody_in_is_told_from_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is found below what the libraries wrapped around it."""

    class Refusing(socket.socket):
        def connect(self, address: Any) -> None:
            raise PermissionError(13, "Permission denied", address)

    monkeypatch.setattr("docker.transport.unixconn.socket.socket", Refusing)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/docker.sock")

    with pytest.raises(NoRights) as error:
        client.connect()

    assert str(folder) in str(error.value)
    assert "group 'docker'" in str(error.value)


def test_without_docker_host_the_usual_places_are_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's engine first, then the user's own; an empty DOCKER_HOST is none."""
    system, own, home = folder / "system", folder / "own", folder / "home"

    class Places:
        """Stands in for ``Path``; the system's own socket is a file of this test's."""

        home = staticmethod(lambda: home)

        def __new__(cls, path: str) -> Path:  # type: ignore[misc]  # that is the point
            return system if path == "/var/run/docker.sock" else Path(path)

    monkeypatch.setattr("maillab.engine.client.Path", Places)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(own))
    monkeypatch.setenv("DOCKER_HOST", "")

    assert client.address() == f"unix://{system}"
    (home / ".docker/run").mkdir(parents=True)
    (home / ".docker/run/docker.sock").touch()
    assert client.address() == f"unix://{home}/.docker/run/docker.sock"
    own.mkdir()
    (own / "docker.sock").touch()
    assert client.address() == f"unix://{own}/docker.sock"
    system.touch()
    assert client.address() == f"unix://{system}"


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Have Docker's own configuration know a context."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    # Its folder is where the SDK looks for contexts.
    (tmp_path / "config.json").write_text('{"currentContext": "desktop"}')

    def make(name: str, host: str) -> None:
        # As the command line writes it; the SDK's own would rewrite the address.
        meta = tmp_path / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
        meta.mkdir(parents=True)
        endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}}
        told = {"Name": name, "Metadata": {}, "Endpoints": endpoints}
        (meta / "meta.json").write_text(json.dumps(told))

    return make


def test_the_context_that_docker_uses_is_ours_too(
    contexts: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As 'docker context use' or DOCKER_CONTEXT set it; DOCKER_HOST goes first."""
    contexts("desktop", "unix:///desktop.sock")
    contexts("away", "tcp://engine.example:2376")

    assert client.address() == "unix:///desktop.sock"
    monkeypatch.setenv("DOCKER_CONTEXT", "away")
    assert client.address() == "tcp://engine.example:2376"
    monkeypatch.setenv("DOCKER_HOST", "unix:///named.sock")
    assert client.address() == "unix:///named.sock"


def test_a_context_that_is_not_there_is_told(
    contexts: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than another engine used."""
    contexts("desktop", "unix:///desktop.sock")
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")

    with pytest.raises(NoEngine, match="docker context ls"):
        client.connect()


def test_a_context_that_cannot_be_read_is_told(
    contexts: Callable[[str, str], None], tmp_path: Path
) -> None:
    """In a line."""
    contexts("desktop", "unix:///desktop.sock")
    (meta,) = tmp_path.glob("contexts/meta/*/meta.json")
    meta.write_text("{")

    with pytest.raises(NoEngine, match=r"cannot be read .*docker context ls"):
        client.connect()


def test_compose_is_told_of_the_same_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever Compose it is."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///named.sock")

    command = compose.compose_command.__wrapped__()

    assert command[command.index("--host") + 1] == "unix:///named.sock"


def test_an_engine_by_ssh_is_told_the_way_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forwarded socket."""
    monkeypatch.setenv("DOCKER_HOST", "ssh://user@engine.example")

    with pytest.raises(NoEngine, match=r"ssh -nNT -L .*DOCKER_HOST=unix:///tmp/engine\.sock"):
        client.connect()


def test_what_the_environment_says_of_certificates_is_not_for_the_engine(
    engine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQUESTS_CA_BUNDLE would take the place of the engine's own authority."""
    engine("1.41")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/of/this/machine.pem")

    found = client.connect()

    found.api.verify = "/engine/ca.pem"
    settings = found.api.merge_environment_settings("https://x", {}, None, None, None)
    assert settings["verify"] is found.api.verify
    found.close()


def test_an_empty_docker_host_does_not_hide_the_place_that_was_found(
    engine: Callable[[str], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine asked is the one that the message would name."""
    engine("1.41")
    monkeypatch.setenv("DOCKER_HOST", "")
    monkeypatch.setattr(client, "address", lambda: f"unix://{folder}/docker.sock")

    found = client.connect()

    assert found.version()["Version"] == "1"
    found.close()


def api_error(words: str) -> APIError:
    """What the SDK raises when the engine refuses."""
    return APIError("500 Server Error", explanation=words)


@pytest.mark.parametrize(
    ("raised", "ours", "words"),
    [
        (api_error("no such container"), HostGone, "doing it: the engine refused: no such"),
        (api_error("write /x: no space left on device"), NoDisk, "doing it: no space left"),
        (api_error("mkdir: No Space Left On Device"), NoDisk, "free some"),
        (requests.exceptions.ConnectionError("x"), HostGone, "doing it: the Docker engine went"),
        (requests.exceptions.ReadTimeout("x"), HostGone, "maillab sweep"),
        (DockerException("x"), HostGone, "went away (DockerException)"),
        (ConnectionResetError("x"), HostGone, "went away (ConnectionResetError)"),
    ],
)
def test_what_the_libraries_raise_becomes_ours(
    raised: Exception, ours: type[MaillabError], words: str
) -> None:
    """With what was being done, and the cause behind it."""
    with pytest.raises(ours) as error, client.engine_errors("doing it"):
        raise raised

    assert type(error.value) is ours
    assert words in str(error.value)
    assert error.value.__cause__ is raised


@pytest.mark.parametrize("raised", [KeyError("x"), HostGone("x"), KeyboardInterrupt()])
def test_what_is_no_fault_of_the_engine_stays_what_it_is(raised: BaseException) -> None:
    """Our own errors and plain mistakes pass."""
    with pytest.raises(type(raised)) as error, client.engine_errors("doing it"):
        raise raised

    assert error.value is raised


# Which images there are, and when they are made anew.


def test_an_unknown_version_lists_the_known_ones() -> None:
    """In the order of the versions, not of the alphabet."""
    with pytest.raises(UnknownName, match=r"version named '9\.9'; there is: 3\.5, 3\.7, 3\.10, "):
        images.postfix("9.9")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the images' sources that may be changed."""
    copy = tmp_path / "images"
    shutil.copytree(resources.images(), copy)
    monkeypatch.setattr(resources, "images", lambda: copy)
    return copy


def tags() -> dict[str, str]:
    """All tags by their plain ones."""
    every = [
        image
        for version, suite in images.SUITES.items()
        for image in [*images.needed(version), Image("base", suite)]
    ]
    return {image.plain_tag: image.tag for image in every}


def changed(do: Callable[[], object]) -> set[str]:
    """The kinds of images that get another tag by it."""
    before = tags()
    do()
    after = tags()
    assert set(after) == set(before)
    return {
        re.sub(r"maillab/(\w+):.*", r"\1", plain)
        for plain in after
        if before[plain] != after[plain]
    }


def test_each_image_has_a_tag_of_its_own(sources: Path) -> None:
    """Under our own name, with something for people to read."""
    found = tags()

    assert len(set(found.values())) == len(found) == 4 + 2 + 4
    assert set(found) >= {"maillab/postfix:3.5", "maillab/base:trixie", "maillab/agent:latest"}
    assert re.fullmatch(r"maillab/postfix:3\.10-[0-9a-f]{12}", found["maillab/postfix:3.10"])
    assert re.fullmatch(r"maillab/base:forky-[0-9a-f]{12}", found["maillab/base:forky"])
    assert re.fullmatch(r"maillab/agent:lab-[0-9a-f]{12}", found["maillab/agent:latest"])


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("base/Dockerfile", {"base", "agent", "dns", "postfix"}),
        ("postfix/Dockerfile", {"postfix"}),
        ("postfix/main.cf", {"postfix"}),
        ("agent/Dockerfile", {"agent"}),
        ("agent/channel.py", {"agent", "dns", "postfix"}),
        ("agent/machine.py", {"agent", "postfix"}),
        ("agent/smtpclient.py", {"agent"}),
        ("dns/zones.py", {"dns"}),
    ],
)
def test_a_changed_file_changes_the_tags_of_what_holds_it(
    sources: Path, file: str, kinds: set[str]
) -> None:
    """And of nothing else: whatever is not concerned is not built again."""
    path = sources / file

    assert changed(lambda: path.write_text(path.read_text() + "# changed\n")) == kinds


def test_a_file_by_another_name_is_another_file(sources: Path) -> None:
    """Added, removed or renamed."""
    agent = sources / "agent"

    assert changed(lambda: (agent / "new.py").write_text("")) == {"agent"}
    assert changed(lambda: (agent / "new.py").rename(agent / "newer.py")) == {"agent"}
    assert changed((agent / "newer.py").unlink) == {"agent"}


def test_what_is_not_in_an_image_changes_no_tag(sources: Path) -> None:
    """Neither dates nor what Python leaves beside its modules."""

    def leave() -> None:
        (sources / "agent/__pycache__").mkdir(exist_ok=True)
        (sources / "agent/__pycache__/channel.pyc").write_bytes(b"x")
        (sources / "README").write_text("x")
        for path in sources.rglob("*.py"):
            path.touch()

    assert changed(leave) == set()


@pytest.mark.parametrize(
    "image", [*images.needed("3.10"), *images.own_images(), Image("base", "trixie")]
)
def test_an_image_is_built_from_what_its_tag_is_made_of(image: Image) -> None:
    """Every file that the Dockerfile copies, the Dockerfile itself, and no other."""
    context = images._context(image)

    with tarfile.open(fileobj=context) as tar:
        contents = {name: _content(tar, name) for name in tar.getnames()}
    recipe = contents.pop("Dockerfile")
    root = resources.images()
    assert recipe == (root / image.kind / "Dockerfile").read_bytes()
    assert contents == {
        path.relative_to(root).as_posix(): path.read_bytes() for path in image.files
    }
    for copied in re.findall(r"(?mi)^\s*(?:COPY|ADD)\s+(.*)\s\S+$", recipe.decode()):
        for source in copied.split():
            there = source.rstrip("/")
            assert any(name == there or name.startswith(f"{there}/") for name in contents), source


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    return file.read() if file else b""


# Making them.


class Workshop:
    """Stands in for the engine where images are made."""

    def __init__(self) -> None:
        self.made: set[str] = set()
        self.builds: list[str] = []
        self.plain: dict[str, str] = {}
        self.failing = ""

    def exists(self, image: Image) -> bool:
        """Whether it was made by now."""
        return image.tag in self.made

    def build(self, image: Image, base: str, say: bootstrap.Say) -> None:
        """Make it, unless it is one that fails."""
        say(f"from {base}")
        if image.kind == self.failing:
            raise ImageError(f"{image.tag} could not be built")
        self.builds.append(image.plain_tag)
        self.made.add(image.tag)

    def tag(self, image: Image) -> None:
        self.plain[image.plain_tag] = image.tag


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """An engine without images and a registry that has all bases, with locks of its own."""
    it = Workshop()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(images, "exists", it.exists)
    monkeypatch.setattr(images, "_build", it.build)
    monkeypatch.setattr(images, "_tag", it.tag)
    monkeypatch.setattr(images, "_pull", lambda _: (True, True))
    return it


def test_what_is_missing_is_made_once_and_only_once(workshop: Workshop) -> None:
    """Bases included; a second look finds nothing to do."""
    images.ensure(["3.10", "3.5", "3.10"])

    made = ["agent:latest", "base:bullseye", "base:trixie", "dns:latest", "postfix:3.10",
            "postfix:3.5"]  # fmt: skip
    assert sorted(workshop.builds) == [f"maillab/{name}" for name in made]
    workshop.plain.clear()
    images.ensure(["3.10", "3.5"])
    assert len(workshop.builds) == len(made)
    # The plain names, too, mean these images again, whatever they were left on.
    assert sorted(workshop.plain) == [f"maillab/{n}" for n in made if not n.startswith("base")]


@pytest.fixture
def scanner(sources: Path) -> Path:
    """The folder of an image that only some topology runs."""
    folder = sources / "virusscanner"
    folder.mkdir()
    (folder / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    return folder


def test_a_topologys_own_image_is_made_for_its_labs_only(workshop: Workshop, scanner: Path) -> None:
    """Other labs get no heavier by it."""
    images.ensure(["3.10"])
    assert "maillab/virusscanner:latest" not in workshop.builds

    images.ensure(["3.10"], ["virusscanner"])
    assert workshop.builds[-1] == "maillab/virusscanner:latest"
    assert workshop.builds.count("maillab/postfix:3.10") == 1


def test_a_topologys_own_image_has_the_name_its_file_asks_for(scanner: Path) -> None:
    """What every lab runs is not there twice when a topology names it, too."""
    own = images.needed("3.10", ["dns", "virusscanner"])[3:]

    assert [image.plain_tag for image in own] == ["maillab/virusscanner:latest"]
    assert re.fullmatch(r"maillab/virusscanner:lab-[0-9a-f]{12}", own[0].tag)
    assert own[0] in images.own_images()


def test_an_own_image_without_a_folder_is_refused(scanner: Path) -> None:
    """The error lists those there are."""
    with pytest.raises(UnknownName, match=r"named 'scaner'; there is: .*virusscanner"):
        images.needed("3.10", ["scaner"])


@pytest.mark.parametrize("name", topology.names())
def test_the_images_of_every_shipped_topology_can_be_made(name: str) -> None:
    """Each that a service names has its folder."""
    own = topology.load(name).own_images

    assert {image.kind for image in images.needed("3.10", own)} == {
        "postfix", "agent", "dns", *own,
    }  # fmt: skip


def test_two_who_ask_for_one_image_make_it_once(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits, then finds it there."""
    both_inside = threading.Barrier(2)

    def exists(image: Image) -> bool:
        there = workshop.exists(image)
        # Whoever is alone here, as it should be, goes on after a moment.
        with contextlib.suppress(threading.BrokenBarrierError):
            both_inside.wait(KEPT_APART_S)
        return there

    monkeypatch.setattr(images, "exists", exists)
    image = images.postfix("3.10")
    with ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(images._make, image, images.Progress()) for _ in range(2)]:
            job.result()

    assert sorted(workshop.builds) == ["maillab/base:trixie", "maillab/postfix:3.10"]


def test_an_image_that_cannot_be_made_is_named_and_the_others_are_kept(
    workshop: Workshop,
) -> None:
    """So that the next attempt has less to do."""
    workshop.failing = "dns"

    with pytest.raises(ImageError, match=r"maillab/dns:lab-\w+ could not be built"):
        images.ensure(["3.10"])

    assert sorted(workshop.builds) == [
        "maillab/agent:latest", "maillab/base:trixie", "maillab/postfix:3.10",
    ]  # fmt: skip


def test_the_making_is_told_line_by_line(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which image, which step, on standard error."""
    images.ensure(["3.10"])

    said = capsys.readouterr()
    assert said.out == ""
    assert re.search(r"(?m)^\[ *\d+\.\d s\] postfix:3\.10: building$", said.err)
    assert re.search(r"(?m)^\[ *\d+\.\d s\] postfix:3\.10: done in \d+ s$", said.err)


class Api:
    """Stands in for the SDK's client and its low-level half."""

    def __init__(self, *steps: dict[str, str], here: bool = False) -> None:
        self.api = self.images = self
        self.steps = steps
        self.here = here
        self.tagged: list[str] = []
        self.asked: dict[str, Any] = {}

    def build(self, **arguments: Any) -> Iterator[dict[str, str]]:
        """The steps, as the engine tells them."""
        self.asked = arguments
        yield from self.steps

    def pull(self, name: str, **_: Any) -> Iterator[dict[str, str]]:
        """The steps, as a registry gives them; nothing more ever comes after an empty one."""
        for step in self.steps:
            if not step:
                threading.Event().wait()
            yield step

    def list(self, name: str) -> list[str]:
        """The images of that name."""
        return [name] if self.here else []

    def get(self, name: str) -> Api:
        """An image."""
        return self

    def tag(self, repository: str, tag: str) -> None:
        """Give it another name."""
        self.tagged.append(f"{repository}:{tag}")


def build(
    monkeypatch: pytest.MonkeyPatch, version: str, *steps: dict[str, str]
) -> tuple[Api, list[str]]:
    """Build a Postfix image with the engine telling these steps."""
    api = Api(*steps)
    monkeypatch.setattr(images, "connect", lambda: api)
    said: list[str] = []
    images._build(images.postfix(version), "the-base", said.append)
    return api, said


def test_a_build_gets_what_it_needs_and_a_name_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only in the testing suite may the Release file be past its date."""
    api, said = build(
        monkeypatch, "3.11", {"stream": "Step 1/2 : FROM x\n"}, {"stream": " ---> 123\n"}
    )

    assert said == ["Step 1/2 : FROM x"]
    assert api.asked["tag"] == images.postfix("3.11").tag
    assert api.asked["network_mode"] == "host"
    assert api.asked["buildargs"] == {
        "BASE": "the-base",
        "VERSION": "3.11",
        "APT_OPTIONS": "-o Acquire::Check-Valid-Until=false",
    }
    assert isinstance(api.asked["fileobj"], io.BytesIO)
    assert api.tagged == ["maillab/postfix:3.11"]

    api, _ = build(monkeypatch, "3.10", {"stream": "Step 1/1 : FROM x\n"})
    assert "APT_OPTIONS" not in api.asked["buildargs"]


def test_a_build_that_fails_shows_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command printed says more than its status."""
    with pytest.raises(ImageError) as error:
        build(
            monkeypatch,
            "3.10",
            {"stream": "Step 1/2 : RUN apt-get update\n"},
            {"stream": "E: Unable to locate package postfix\n"},
            {"error": "The command returned a non-zero code: 100"},
        )

    assert images.postfix("3.10").tag in str(error.value)
    assert "E: Unable to locate package postfix" in str(error.value)
    assert "non-zero code: 100" in str(error.value)


def test_a_build_that_runs_out_of_room_is_no_fault_of_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However the engine tells it."""
    with pytest.raises(NoDisk, match="free some"):
        build(monkeypatch, "3.10", {"error": "write /var/x: no space left on device"})


@pytest.mark.parametrize(
    ("api", "found"),
    [
        (Api(here=True), (True, True)),
        (Api({"status": "Pulling"}, {"status": "Downloaded"}), (False, True)),
        (Api({"status": "Pulling"}, {"error": "no route"}), (False, False)),
        (Api({"error": "no such host"}), (False, False)),
        (Api({}), (False, False)),
    ],
    ids=["there", "pulled", "breaks off", "no registry", "silent registry"],
)
def test_a_registry_has_a_moment_to_answer(
    api: Api, found: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tells whether the engine had the image, and whether it has it now."""
    monkeypatch.setattr(images, "connect", lambda: api)
    silent = api.steps == ({},)
    monkeypatch.setattr(images, "_REGISTRY_ANSWERS_WITHIN_S", 0.1 if silent else 60.0)

    assert images._pull("debian:trixie-slim") == found


# What a machine without a registry has.


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a shell script onto the path, on which there is nothing else of the kind."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cat", "echo", "touch"):
        (folder / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def write(name: str, script: str) -> None:
        path = folder / name
        path.write_text(f"#!{shutil.which('sh')}\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return write


@pytest.mark.parametrize(
    ("listed", "mirror"),
    [
        ("http://m.test/debian\nhttp://m.test/debian\n", "http://m.test/debian"),
        ("http://m.test/debian/\n", "http://m.test/debian/"),
        ("http://s.test/debian-security\nhttp://m.test/debian\n", "http://m.test/debian"),
        ("http://u.test/ubuntu\nhttp://x.test/debian-like/y\n", None),
        ("", None),
    ],
)
def test_the_mirror_is_the_one_that_the_machine_uses(
    programs: Callable[[str, str], None], listed: str, mirror: str | None
) -> None:
    """No mirror's name is written anywhere in the harness."""
    programs("apt-get", f"[ $1 = indextargets ] && cat <<EOF\n{listed}EOF")

    assert bootstrap.debian_mirror() == mirror


def test_a_machine_without_apt_has_no_mirror(programs: Callable[[str, str], None]) -> None:
    """Mmdebstrap then takes its own default."""
    assert bootstrap.debian_mirror() is None


MMDEBSTRAP = """
echo "$@" >>{calls}
for tar; do case $tar in *.tar) echo system >$tar ;; esac; done
"""


def bootstrapped(folder: Path, *, testing: bool = False) -> list[list[str]]:
    """Bootstrap a suite; returns how mmdebstrap was called."""
    tar = bootstrap.debootstrap("forky", testing=testing, say=lambda _: None)
    assert tar.read_text() == "system\n"
    tar.unlink()
    return [line.split() for line in (folder / "calls").read_text().splitlines()]


def test_a_base_is_bootstrapped_from_the_machines_own_mirror(
    programs: Callable[[str, str], None], tmp_path: Path
) -> None:
    """With python3, which every image of ours needs."""
    programs("apt-get", "echo http://m.test/debian")
    programs("mmdebstrap", MMDEBSTRAP.format(calls=tmp_path / "calls"))

    (call,) = bootstrapped(tmp_path)

    assert call[-3] == "forky"
    assert call[-1] == "http://m.test/debian"
    assert "--include=python3" in call


def test_a_base_is_bootstrapped_from_the_tools_default_else(
    programs: Callable[[str, str], None], tmp_path: Path
) -> None:
    """Without a mirror of the machine's."""
    programs("mmdebstrap", MMDEBSTRAP.format(calls=tmp_path / "calls"))

    (call,) = bootstrapped(tmp_path)

    assert call[-2] == "forky"


EXPIRED = "E: Release file for http://m.test/dists/forky/InRelease is expired"


def test_a_release_file_past_its_date_is_taken_in_testing(
    programs: Callable[[str, str], None], tmp_path: Path
) -> None:
    """Mirrors of testing lag behind; a stable suite's must be in date."""
    script = MMDEBSTRAP.format(calls=tmp_path / "calls")
    programs(
        "mmdebstrap",
        script + f"case $* in *Valid-Until*) ;; *) echo '{EXPIRED}' >&2; exit 1 ;; esac",
    )

    first, second = bootstrapped(tmp_path, testing=True)

    assert [option for option in second if option not in first] == [
        "--aptopt=Acquire::Check-Valid-Until", '"false"',
    ]  # fmt: skip
    with pytest.raises(ImageError, match="is expired"):
        bootstrapped(tmp_path, testing=False)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("I: working\\nE: Unable to connect\\nI: cleaning up", ImageError),
        ("E: write: No space left on device", NoDisk),
    ],
)
def test_a_bootstrap_that_fails_shows_its_last_words_and_leaves_nothing(
    programs: Callable[[str, str], None], tmp_path: Path, words: str, error: type[MaillabError]
) -> None:
    """The suite is named, and half a system is not left behind."""
    programs("mmdebstrap", f"printf '{words}\\n' >&2; exit 25")

    with pytest.raises(error, match="forky") as raised:
        bootstrap.debootstrap("forky", testing=False, say=lambda _: None)

    assert error is NoDisk or "forky: E: Unable to connect" in str(raised.value)
    assert list(tmp_path.glob("*.tar")) == []


def test_a_machine_that_cannot_bootstrap_is_told_what_it_lacks(
    programs: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is installed on a machine that is no Debian, or for somebody who is not root."""
    monkeypatch.setattr(bootstrap, "is_debian_root", lambda: False)

    with pytest.raises(ImageError, match=r"install mmdebstrap .* or let the engine reach"):
        bootstrap.debootstrap("forky", testing=False, say=lambda _: None)


def test_what_a_bare_machine_lacks_is_installed(
    programs: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the machine's own package manager, and told; its words when it fails."""
    monkeypatch.setattr(bootstrap, "is_debian_root", lambda: True)
    called = tmp_path / "called"
    said: list[str] = []
    programs(
        "apt-get",
        f'echo "$@" >>{called}; [ $1 = update ] || {{ echo "E: no luck" >&2; exit 100; }}',
    )

    with pytest.raises(NoEngine, match=r"apt-get install .*mmdebstrap.* failed: E: no luck"):
        bootstrap.debootstrap("forky", testing=False, say=said.append)

    assert said == ["installing from this machine's packages: mmdebstrap debian-archive-keyring"]
    update, install = called.read_text().splitlines()
    assert update.startswith("update")
    assert install.endswith("mmdebstrap debian-archive-keyring")


def test_the_real_engine_is_found() -> None:
    """Where there is one: the tests of labs need it."""
    found = client.connect()

    assert isinstance(found, docker.DockerClient)
    assert found.ping()
    found.close()
