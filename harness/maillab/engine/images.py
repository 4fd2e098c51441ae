"""The images of a lab: built on demand, each once, never stale.

An image's tag is a hash of its sources, so a changed file means a new image. It has no
other tag: a tag that does not depend on the sources would move between checkouts that
share an engine. Base images come from a registry if one answers, else from Debian's
packages, under maillab's own name.

The tag does not show the age of an image's packages: a label has the day on which they
were installed. ``renew`` installs newer packages, and so the suite's security updates.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import re
import sys
import tarfile
import tempfile
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from docker.errors import APIError, ImageNotFound
from filelock import FileLock

from maillab.engine import bootstrap
from maillab.engine.client import connect, engine_errors
from maillab.errors import ImageError, NoDisk, NoEngine, UnknownName
from maillab.site import resources, versions

SUITES = versions.SUITES
VERSION_DEFAULT = versions.DEFAULT
_TESTING = {"forky"}
_TOOLS_SUITE = "trixie"
_OF_EVERY_LAB = ("postfix", "agent", "dns")
_REGISTRY_ANSWERS_WITHIN_S = 6.0
# "make setup", and with it "make test", renews older packages (cli/__init__ says so, too).
RENEW_AFTER_DAYS = 30
# The engine's cache may have packages for a changed image that are this old.
_CACHED_FOR_DAYS = 7
PACKAGES_LABEL = "maillab.packages"
VERSION_LABEL = "maillab.version"
_NEVER = date.min
# A mail host's Postfix and more packages: an image of each version.
_VARIANT = "postfix-"
# A line that a build prints (prepare.sh).
_INSTALLED = "maillab: installed "


@dataclass(frozen=True)
class Image:
    """One image: its kind, Debian suite and Postfix version, and its source files."""

    kind: str
    suite: str
    version: str = ""

    @property
    def files(self) -> list[Path]:
        """The image's source files in ``images/``: its Dockerfile and the files it copies."""
        recipe = resources.images() / self.kind / "Dockerfile"
        copied = re.findall(r"(?m)^COPY (.+) \S+$", recipe.read_text(encoding="utf-8"))
        sources = [resources.images() / name for line in copied for name in line.split()]
        found = {recipe}
        for source in sources:
            found.update(source.rglob("*") if source.is_dir() else [source])
        return sorted(p for p in found if p.is_file() and "__pycache__" not in p.parts)

    @functools.cached_property
    def tag(self) -> str:
        """The image's name in the engine."""
        digest = hashlib.sha256(f"{self.kind} {self.suite} {self.version}".encode())
        for path in self.files:
            digest.update(path.relative_to(resources.images()).as_posix().encode())
            digest.update(path.read_bytes())
        if self.kind == "base":
            return f"maillab/base:{self.suite}-{digest.hexdigest()[:12]}"
        digest.update(self.base.tag.encode())
        return f"maillab/{self.kind}:{self.version or 'lab'}-{digest.hexdigest()[:12]}"

    @property
    def base(self) -> Image:
        """The image that it is made of: of the Debian release, or of the same Postfix."""
        if self.kind.startswith(_VARIANT):
            return postfix(self.version)
        return Image("base", versions.release_of(self.suite))

    @property
    def variable(self) -> str:
        """The variable that names it in a topology's file."""
        return f"{self.kind.upper().replace('-', '_')}_IMAGE"

    @property
    def title(self) -> str:
        """The image's name in progress reports: "postfix:3.10", "agent"."""
        variant = self.suite if self.kind == "base" else self.version
        return f"{self.kind}:{variant}" if variant else self.kind


def postfix(version: str) -> Image:
    """Return the image of a Postfix version; raise UnknownName."""
    if version not in SUITES:
        raise UnknownName.among("Postfix version", version, list(SUITES))
    return Image("postfix", SUITES[version], version)


def needed(version: str, own: Iterable[str] = ()) -> list[Image]:
    """Return the images that a lab of this Postfix version runs.

    ``own`` are the additional kinds of its topology (``Topology.own_images``). Raises
    UnknownName for a kind without a folder in ``images/``.
    """
    return [
        postfix(version),
        *(Image(kind, _TOOLS_SUITE) for kind in _OF_EVERY_LAB[1:]),
        *(_own(kind, version) for kind in own if kind not in _OF_EVERY_LAB),
    ]


def own_images(version: str = VERSION_DEFAULT) -> list[Image]:
    """Return the images that only some topologies run; the first lab that needs one builds it."""
    recipes = resources.images().glob("*/Dockerfile")
    kinds = sorted({path.parent.name for path in recipes} - {"base", *_OF_EVERY_LAB})
    return [
        replace(postfix(version), kind=kind)
        if kind.startswith(_VARIANT)
        else Image(kind, _TOOLS_SUITE)
        for kind in kinds
    ]


def _own(kind: str, version: str) -> Image:
    known = {image.kind: image for image in own_images(version)}
    if kind not in known:
        raise UnknownName.among("image", kind, list(known))
    return known[kind]


def packages_of(image: Image) -> date | None:
    """Return the day on which the image's packages were taken; None if there is no image."""
    with engine_errors("looking for images"):
        try:
            found = connect().images.get(image.tag)
        except ImageNotFound:
            return None
    return packages_day(found.labels)


def packages_day(labels: Mapping[str, str] | None) -> date:
    """Return the day of the packages from an image's labels; ``date.min`` if there is none."""
    try:
        return date.fromisoformat((labels or {}).get(PACKAGES_LABEL, ""))
    except ValueError:
        return _NEVER


def today() -> date:
    """Return today's date (UTC)."""
    return datetime.now(UTC).date()


def ensure(versions: list[str], own: Iterable[str] = ()) -> None:
    """Build the missing images for labs of these versions, several at once.

    ``own`` is as for ``needed``. Raise ImageError or NoDisk; finished images are kept.
    """
    wanted = _wanted(versions, own)
    days = {image: packages_of(image) for image in wanted}
    missing = [image for image in wanted if days[image] is None]
    _make_all(missing, _NEVER)
    old = min((day for day in days.values() if day is not None), default=_NEVER)
    if not missing and old < today() - timedelta(RENEW_AFTER_DAYS):
        _remind(old)


@functools.cache
def _remind(day: date) -> None:
    print(
        f"maillab: images have packages of {day}; 'maillab images --make' renews them",
        file=sys.stderr,
    )


def renew(versions: list[str], older_than_days: int = RENEW_AFTER_DAYS) -> None:
    """Rebuild the images whose packages are older, with the suites' current packages.

    A topology's own image is rebuilt only if it exists. Raise ImageError or NoDisk; an
    image that could not be rebuilt stays unchanged.
    """
    oldest = today() - timedelta(min(older_than_days, today().toordinal() - 1))
    own = [image for version in versions for image in own_images(version)]
    made = [image for image in dict.fromkeys(own) if packages_of(image) is not None]
    wanted = dict.fromkeys([*_wanted(versions), *made])
    _make_all([image for image in wanted if (packages_of(image) or _NEVER) < oldest], oldest)


def _wanted(versions: list[str], own: Iterable[str] = ()) -> list[Image]:
    kinds = tuple(own)
    return list(dict.fromkeys(image for version in versions for image in needed(version, kinds)))


def _make_all(images: list[Image], oldest: date) -> None:
    """Build images whose packages are not older than ``oldest``."""
    if not images:
        return
    progress = Progress()
    with ThreadPoolExecutor(max_workers=4) as pool:
        made = [pool.submit(_make, image, progress, oldest) for image in images]
        for job in made:
            job.result()


class Progress:
    """The progress of builds: a line on standard error for each step, with the time."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, name: str, text: str) -> None:
        """Print one line of progress about the image ``name``."""
        elapsed_s = time.monotonic() - self._began
        print(f"[{elapsed_s:6.1f} s] {name}: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _once(image: Image, oldest: date) -> Iterator[bool]:
    """Lock the build of this image; yield True if it is still missing or too old."""
    folder = Path(tempfile.gettempdir()) / f"maillab-locks-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / f"{image.tag.replace('/', '-').replace(':', '-')}.lock"):
        day = packages_of(image)
        yield day is None or day < oldest


def _make(image: Image, progress: Progress, oldest: date) -> None:
    with _once(image, oldest) as missing:
        if not missing:
            return
        name = image.title
        base = image.base
        (_make_base if base.kind == "base" else _make)(base, progress, oldest)
        progress.say(name, "building")
        began = time.monotonic()
        _build(image, base.tag, lambda text: progress.say(name, text), oldest)
        progress.say(name, f"done in {time.monotonic() - began:.0f} s")


def _make_base(image: Image, progress: Progress, oldest: date) -> None:
    with _once(image, oldest) as missing:
        if not missing:
            return
        name = image.title
        began = time.monotonic()
        upstream = f"debian:{image.suite}-slim"
        progress.say(name, f"asking the engine's registry for {upstream}")
        had_it, pulled = _pull(upstream)
        if pulled:
            _build(image, upstream, lambda text: progress.say(name, text), oldest)
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
                with (
                    engine_errors(f"importing {image.tag}"),
                    tar.open("rb") as data,
                    _replacing(image),
                ):
                    repository, tag = image.tag.split(":")
                    connect().api.import_image_from_data(
                        data,
                        repository=repository,
                        tag=tag,
                        changes=[f"LABEL {PACKAGES_LABEL}={today()}"],
                    )
            finally:
                tar.unlink()
        progress.say(name, f"done in {time.monotonic() - began:.0f} s")


def _pull(name: str) -> tuple[bool, bool]:
    """Pull an image; return whether the engine had it before, and whether it has it now.

    A registry that does not respond in time counts as none.
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
        except (APIError, OSError, NoEngine):
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


@contextlib.contextmanager
def _replacing(image: Image) -> Iterator[None]:
    """Remove the image that has the tag before the block, if another image has it afterwards."""
    try:
        old = connect().images.get(image.tag).id
    except ImageNotFound:
        old = None
    yield
    if old and connect().images.get(image.tag).id != old:
        # Labs that run it, and images made of it, keep it.
        with contextlib.suppress(APIError):
            connect().images.remove(old)


def _build(image: Image, base: str, say: bootstrap.Say, oldest: date) -> None:
    """Build through the engine's API with host networking.

    The command line's builder is missing or different on many machines, and a
    build through the bridge stalls where the MTU outside is smaller.
    """
    with engine_errors(f"building {image.tag}"):
        day = _day_of_build(image, base, oldest)
        arguments = {"BASE": base, "PACKAGES": str(day), "BUILT": str(time.time())}
        if image.version:
            arguments["VERSION"] = image.version
        if backports := versions.backports_of(image.suite):
            arguments["BACKPORTS"] = backports
        if image.suite in _TESTING:
            arguments["APT_OPTIONS"] = "-o Acquire::Check-Valid-Until=false"
        labels = {PACKAGES_LABEL: str(day)}
        with _replacing(image):
            version = _run_build(image, _context(image), arguments, labels, say)
            if version:
                # Known only now; the engine takes labels before it builds.
                recipe = _tar({"Dockerfile": f"FROM {image.tag}\n".encode()})
                _run_build(image, recipe, {}, labels | {VERSION_LABEL: version}, lambda _: None)


def _day_of_build(image: Image, base: str, oldest: date) -> date:
    """Return the day of the packages that a build uses: today, or that of the engine's cache.

    The cache has the packages of a similar image, so that a changed file costs seconds.
    """
    now = today()
    oldest = max(oldest, now - timedelta(_CACHED_FOR_DAYS))
    alike = connect().images.list(name=f"maillab/{image.kind}")
    prefix = image.tag.rpartition("-")[0]
    days = [
        packages_day(other.labels)
        for other in alike
        if any(tag.startswith(f"{prefix}-") for tag in other.tags)
    ]
    day = max((day for day in days if oldest <= day <= now), default=now)
    if image.kind == "base":
        return day
    return min(day, packages_day(connect().images.get(base).labels))


def _run_build(
    image: Image,
    context: io.BytesIO,
    arguments: dict[str, str],
    labels: dict[str, str],
    say: bootstrap.Say,
) -> str:
    """Build and tag; return the version that the build reports as installed, or ""."""
    failed = version = ""
    tail: list[str] = []
    for step in connect().api.build(
        fileobj=context,
        custom_context=True,
        network_mode="host",
        buildargs=arguments,
        labels=labels,
        tag=image.tag,
        rm=True,
        forcerm=True,
        decode=True,
    ):
        text = str(step.get("stream", "")).strip()
        if text.startswith("Step "):
            say(textwrap.shorten(text, 70, placeholder=" ..."))
        elif text.startswith(_INSTALLED):
            version = text.removeprefix(_INSTALLED)
        elif text:
            tail = [*tail[-4:], text]
        failed = failed or str(step.get("error", ""))
    if "no space left" in failed.lower():
        raise NoDisk(f"no space left on the engine's disk while building {image.tag}; free some")
    if failed:
        raise ImageError(f"{image.tag} could not be built: {failed}: {' | '.join(tail)}")
    return version


def _tar(files: Mapping[str, bytes]) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    data.seek(0)
    return data


def _context(image: Image) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path in image.files:
            tar.add(path, path.relative_to(resources.images()).as_posix())
        tar.add(resources.images() / image.kind / "Dockerfile", "Dockerfile")
    data.seek(0)
    return data
