"""Who installs the wheel needs nothing of this repository. Needs an engine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from maillab.engine.images import needed

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "own-config"


def run(*command: str | Path, cwd: Path) -> str:
    """What a command printed; nothing of this project is in its environment."""
    clean = {key: text for key, text in os.environ.items() if not key.startswith(("PY", "VIRTUAL"))}
    done = subprocess.run(
        command, cwd=cwd, env=clean, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an environment that has the wheel, and this one's packages beside it."""
    folder = tmp_path_factory.mktemp("elsewhere")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT, cwd=folder)
    venv.create(folder / "venv")
    python = folder / "venv/bin/python"
    (wheel,) = folder.glob("maillab-*.whl")
    run(*pip, "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=folder)
    # What it depends on is not fetched once more: its modules, and the one program among it.
    where = run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder)
    Path(where.strip(), "of-the-tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    compose = Path(sysconfig.get_path("scripts"), "docker-compose")
    (folder / "venv/bin/docker-compose").symlink_to(compose)
    return folder


def test_the_wheel_brings_its_data(elsewhere: Path) -> None:
    """Topologies and images are those of the tree, so that no image is made twice."""
    tell = (
        "import maillab; from maillab import resources, topology; "
        "from maillab.engine.images import needed; "
        "print(maillab.__file__, resources.compose(), resources.images(), *topology.names(), "
        "*(image.tag for image in needed('3.10')))"
    )

    told = run(elsewhere / "venv/bin/python", "-c", tell, cwd=elsewhere).split()

    assert all(Path(path).is_relative_to(elsewhere / "venv") for path in told[:3])
    assert {path.stem for path in (ROOT / "compose").glob("*.yaml")} - {"base"} <= set(told)
    assert {image.tag for image in needed("3.10")} <= set(told)


def test_the_example_passes_from_outside_the_tree(elsewhere: Path) -> None:
    """With its own main.cf, by the plugin alone."""
    shutil.copytree(EXAMPLE, elsewhere / "ours")

    told = run(elsewhere / "venv/bin/python", "-m", "pytest", "-q", cwd=elsewhere / "ours")

    assert "6 passed" in told
