"""The images of a lab: made on demand, each once, never stale.

An image's tag is a hash of what it is made of, so that a changed file means a
new image and an unchanged one means none. Base images come from a registry
where one answers, else from Debian's packages, always under our own name.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import hashlib
import io
import re
import sys
import tarfile
import tempfile
import textwrap
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from docker.errors import APIError, ImageNotFound
from filelock import FileLock

from maillab import resources
from maillab.engine import bootstrap
from maillab.engine.client import connect, engine_errors
from maillab.errors import ImageError, NoDisk, UnknownName

SUITES = {"3.5": "bullseye", "3.7": "bookworm", "3.10": "trixie", "3.11": "forky"}
VERSION_DEFAULT = "3.10"
_TESTING = {"forky"}
_TOOLS_SUITE = "trixie"
_OF_EVERY_LAB = ("postfix", "agent", "dns")
_REGISTRY_ANSWERS_WITHIN_S = 6.0


@dataclass(frozen=True)
class Image:
    """One image: its repository, the part of the tag for people, and its ingredients."""

    kind: str
    suite: str
    version: str = ""

    @property
    def files(self) -> list[Path]:
        """The files of ``images/`` it is made of: its Dockerfile and what that copies."""
        recipe = resources.images() / self.kind / "Dockerfile"
        copied = re.findall(r"(?m)^COPY (.+) \S+$", recipe.read_text())
        sources = [resources.images() / name for line in copied for name in line.split()]
        found = {recipe}
        for source in sources:
            found.update(source.rglob("*") if source.is_dir() else [source])
        return sorted(p for p in found if p.is_file() and "__pycache__" not in p.parts)

    @functools.cached_property
    def tag(self) -> str:
        """The name under which the engine has it."""
        digest = hashlib.sha256(f"{self.kind} {self.suite} {self.version}".encode())
        for path in self.files:
            digest.update(path.relative_to(resources.images()).as_posix().encode())
            digest.update(path.read_bytes())
        if self.kind == "base":
            return f"maillab/base:{self.suite}-{digest.hexdigest()[:12]}"
        digest.update(Image("base", self.suite).tag.encode())
        return f"maillab/{self.kind}:{self.version or 'lab'}-{digest.hexdigest()[:12]}"

    @property
    def plain_tag(self) -> str:
        """The name that Compose files give it when they are used by hand."""
        name = self.suite if self.kind == "base" else self.version or "latest"
        return f"maillab/{self.kind}:{name}"


def postfix(version: str) -> Image:
    """The image of a Postfix version; raises UnknownName."""
    if version not in SUITES:
        raise UnknownName.among("Postfix version", version, list(SUITES))
    return Image("postfix", SUITES[version], version)


def needed(version: str, own: Iterable[str] = ()) -> list[Image]:
    """The images a lab of this Postfix version runs.

    ``own`` are the kinds that its topology runs beside (``Topology.own_images``);
    raises UnknownName for one that ``images/`` has no folder of.
    """
    return [
        postfix(version),
        *(Image(kind, _TOOLS_SUITE) for kind in _OF_EVERY_LAB[1:]),
        *(_own(kind) for kind in own if kind not in _OF_EVERY_LAB),
    ]


def own_images() -> list[Image]:
    """The images that only some topologies run; made with the first lab that needs them."""
    recipes = resources.images().glob("*/Dockerfile")
    kinds = sorted({path.parent.name for path in recipes} - {"base", *_OF_EVERY_LAB})
    return [Image(kind, _TOOLS_SUITE) for kind in kinds]


def _own(kind: str) -> Image:
    known = {image.kind: image for image in own_images()}
    if kind not in known:
        raise UnknownName.among("image of a topology's own", kind, list(known))
    return known[kind]


def exists(image: Image) -> bool:
    """Whether the engine has it, up to date."""
    with engine_errors("looking for images"):
        try:
            connect().images.get(image.tag)
        except ImageNotFound:
            return False
    return True


def ensure(versions: list[str], own: Iterable[str] = ()) -> None:
    """Make what is missing for labs of these versions, several images at once.

    ``own`` as for ``needed``. Raises ImageError or NoDisk; what was made by then is kept.
    """
    kinds = tuple(own)
    wanted = dict.fromkeys(image for version in versions for image in needed(version, kinds))
    missing = [image for image in wanted if not exists(image)]
    for image in wanted:
        # The plain name may be left on what other sources made.
        if image not in missing:
            _tag(image)
    if not missing:
        return
    progress = Progress()
    with ThreadPoolExecutor(max_workers=4) as pool:
        made = [pool.submit(_make, image, progress) for image in missing]
        for job in made:
            job.result()


class Progress:
    """Which image, which step, how long: a line each on standard error."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, name: str, text: str) -> None:
        """One line of progress about the image ``name``."""
        elapsed_s = time.monotonic() - self._began
        print(f"[{elapsed_s:6.1f} s] {name}: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _once(image: Image) -> Iterator[bool]:
    """Hold the only right to make this image; yields whether it is still missing."""
    folder = Path(tempfile.gettempdir()) / f"maillab-locks-{getpass.getuser()}"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / f"{image.tag.replace('/', '-').replace(':', '-')}.lock"):
        yield not exists(image)


def _make(image: Image, progress: Progress) -> None:
    with _once(image) as missing:
        if not missing:
            return
        name = image.plain_tag.removeprefix("maillab/")
        base = Image("base", image.suite)
        _make_base(base, progress)
        progress.say(name, "building")
        began = time.monotonic()
        _build(image, base.tag, lambda text: progress.say(name, text))
        progress.say(name, f"done in {time.monotonic() - began:.0f} s")


def _make_base(image: Image, progress: Progress) -> None:
    with _once(image) as missing:
        if not missing:
            return
        name = image.plain_tag.removeprefix("maillab/")
        began = time.monotonic()
        upstream = f"debian:{image.suite}-slim"
        progress.say(name, f"asking the engine's registry for {upstream}")
        had_it, pulled = _pull(upstream)
        if pulled:
            _build(image, upstream, lambda text: progress.say(name, text))
            if not had_it:
                connect().images.remove(upstream, noprune=True)
        else:
            progress.say(name, "no registry answers; bootstrapping from Debian's packages")
            tar = bootstrap.debootstrap(
                image.suite,
                testing=image.suite in _TESTING,
                say=lambda text: progress.say(name, text),
            )
            try:
                progress.say(name, "importing")
                with engine_errors(f"importing {image.tag}"), tar.open("rb") as data:
                    repository, tag = image.tag.split(":")
                    connect().api.import_image_from_data(data, repository=repository, tag=tag)
            finally:
                tar.unlink()
            _tag(image)
        progress.say(name, f"done in {time.monotonic() - began:.0f} s")


def _pull(name: str) -> tuple[bool, bool]:
    """Whether the engine had the image, and whether it has it now.

    A registry that gives no sign of life in time counts as none.
    """
    client = connect()
    with engine_errors("looking for images"):
        if client.images.list(name=name):
            return True, True
    signs: SimpleQueue[str] = SimpleQueue()

    def pull() -> None:
        try:
            for step in client.api.pull(name, stream=True, decode=True):
                signs.put("error" if "error" in step else "progress")
        except (APIError, OSError):
            signs.put("error")
        signs.put("end")

    Thread(target=pull, daemon=True).start()
    try:
        sign = signs.get(timeout=_REGISTRY_ANSWERS_WITHIN_S)
        while sign == "progress":
            sign = signs.get()
    except Empty:
        return False, False
    return False, sign == "end"


def _build(image: Image, base: str, say: bootstrap.Say) -> None:
    """Build through the engine's API with host networking.

    The command line's builder is missing or different on many machines, and a
    build through the bridge stalls where the MTU outside is smaller.
    """
    arguments = {"BASE": base}
    if image.version:
        arguments["VERSION"] = image.version
    if image.suite in _TESTING:
        arguments["APT_OPTIONS"] = "-o Acquire::Check-Valid-Until=false"
    failed = ""
    tail: list[str] = []
    with engine_errors(f"building {image.tag}"):
        for step in connect().api.build(
            fileobj=_context(image),
            custom_context=True,
            network_mode="host",
            buildargs=arguments,
            tag=image.tag,
            rm=True,
            forcerm=True,
            decode=True,
        ):
            text = str(step.get("stream", "")).strip()
            if text.startswith("Step "):
                say(textwrap.shorten(text, 70, placeholder=" ..."))
            elif text:
                tail = [*tail[-4:], text]
            failed = failed or str(step.get("error", ""))
    if "no space left" in failed.lower():
        raise NoDisk(f"no space left on the engine's disk while building {image.tag}; free some")
    if failed:
        raise ImageError(f"{image.tag} could not be built: {failed}: {' | '.join(tail)}")
    _tag(image)


def _tag(image: Image) -> None:
    repository, tag = image.plain_tag.split(":")
    with engine_errors(f"tagging {image.tag}"):
        connect().images.get(image.tag).tag(repository, tag)


def _context(image: Image) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path in image.files:
            tar.add(path, path.relative_to(resources.images()).as_posix())
        tar.add(resources.images() / image.kind / "Dockerfile", "Dockerfile")
    data.seek(0)
    return data
