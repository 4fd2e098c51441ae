"""The installed wheel works without this repository. Needs an engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from maillab.engine import byhand
from maillab.engine.images import VERSION_DEFAULT, needed
from maillab.suite import answers, claims, collection

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Return a command's output, with nothing of this project in its environment."""
    clean = {key: text for key, text in os.environ.items() if not key.startswith(("PY", "VIRTUAL"))}
    clean |= variables
    done = subprocess.run(
        command, cwd=cwd, env=clean, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose environment has the wheel, and shares this one's packages."""
    folder = tmp_path_factory.mktemp("elsewhere")
    byhand.write([VERSION_DEFAULT])
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT, cwd=folder)
    venv.create(folder / "venv")
    python = folder / "venv/bin/python"
    (wheel,) = folder.glob("maillab-*.whl")
    run(*pip, "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=folder)
    # Share the dependencies instead of downloading: modules, and one program.
    where = run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder)
    Path(where.strip(), "of-the-tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    compose = Path(sysconfig.get_path("scripts"), "docker-compose")
    (folder / "venv/bin/docker-compose").symlink_to(compose)
    return folder


def test_the_wheel_brings_its_data(elsewhere: Path) -> None:
    """Topologies and images equal the tree's, so no image is built twice."""
    tell = (
        "import maillab; from maillab.site import resources, topology; "
        "from maillab.engine.images import needed; "
        "print(maillab.__file__, resources.compose(), resources.images(), *topology.names(), "
        "*(image.tag for image in needed('3.10')))"
    )

    printed = run(elsewhere / "venv/bin/python", "-c", tell, cwd=elsewhere).split()

    assert all(Path(path).is_relative_to(elsewhere / "venv") for path in printed[:3])
    assert {path.stem for path in (ROOT / "compose").glob("*.yaml")} - {"base"} <= set(printed)
    assert {image.tag for image in needed("3.10")} <= set(printed)
    # The record of this checkout's images is not part of the wheel.
    assert byhand.file().is_file()
    assert not Path(printed[1], ".env").exists()


def test_the_wheel_answers_the_faq(elsewhere: Path) -> None:
    """The wheel has the tree's scenarios, under the names of recorded results, and its answers."""
    command = (elsewhere / "venv/bin/maillab", "faq", "--json")
    cache = str(elsewhere / "cache")

    entries = json.loads(run(*command, cwd=elsewhere, XDG_CACHE_HOME=cache))
    listed = json.loads(run(*command, "--claims", cwd=elsewhere, XDG_CACHE_HOME=cache))

    assert [claim["id"] for claim in listed] == [claim.id for claim in claims.claims()]
    found = {scenario["id"]: scenario for entry in entries for scenario in entry["scenarios"]}
    expected = collection.scenarios(str(ROOT / "scenarios"))
    assert set(found) == {scenario.id for scenario in expected}
    assert len(found) > 700
    shipped = answers.read(ROOT / "scenarios" / answers.ANSWERS)
    cures = [test for test in shipped if shipped[test].settings and found[test]["kind"] == "cure"]
    assert cures
    for test in cures:
        assert found[test]["settings"] == [vars(step) for step in shipped[test].settings]
    assert any(entry["log"] for entry in entries)


@pytest.mark.parametrize(("example", "passed"), [("own-config", 6), ("own-milter", 4)])
def test_an_example_passes_from_outside_the_tree(
    elsewhere: Path, example: str, passed: int
) -> None:
    """It needs only its own files and the plugin."""
    shutil.copytree(EXAMPLES / example, elsewhere / example)

    output = run(elsewhere / "venv/bin/python", "-m", "pytest", "-q", cwd=elsewhere / example)

    assert f"{passed} passed" in output
