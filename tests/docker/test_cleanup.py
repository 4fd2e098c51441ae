"""Containers, networks and volumes never outlive their owner, however it ended. Needs an engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from facts import wait_until
from maillab.engine import compose
from maillab.engine.client import connect
from maillab.engine.container import set_network

RUN = """
import sys
from maillab.site import topology
from maillab.engine import compose
from maillab.lab.pool import Labs
labs = Labs()
print(compose.owner(), flush=True)
labs.get(topology.load("standalone"), sys.argv[1])
print("up", flush=True)
sys.stdin.read()
labs.close()
"""


# A scenario that fails, and a report, for commands that leave a lab up.
KEEP_LABS = """
import pytest

@pytest.mark.topology("standalone")
def test_behaviour_it(lab):
    assert 0
"""
REPORT = (
    "Jan  1 00:00:00 mail postfix/smtp[1]: 4F21433: to=<joe@example.net>, relay=none, "
    "delay=1, delays=0/0/1/0, dsn=4.4.1, status=deferred (connect to remote: timed out)"
)


def run(version: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, version],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, process.stdout.readline().strip()


def labs_of(owner: str) -> list[str]:
    return [lab.name for lab in compose.projects().values() if lab.owner == owner]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_killed_leaves_nothing(
    end: signal.Signals, request: pytest.FixtureRequest
) -> None:
    """The run's watchdog removes containers, networks and volumes."""
    process, owner = run(request.config.option.postfix)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    assert labs_of(owner)

    process.send_signal(end)
    process.communicate()

    wait_until(lambda: not labs_of(owner))


RUN_WITH_DISKS = """
import sys, time
from maillab.faults import SlowDisk
from maillab.lab.mail_lab import MailLab
with MailLab("standalone", postfix=sys.argv[1]) as lab:
    print(lab.mail.channel.container[:12], flush=True)
    lab.mail.add_disk("/srv")
    with lab.mail.faulty(SlowDisk(50)):
        print("mounted", flush=True)
        lab.load(lab.mail, lab.client, sessions=20, messages=10000)
"""


def loop_devices(name: str) -> str:
    """Return the backing files of the engine's loop devices that contain this name, one a line."""
    image = next(tag for tag in _tags() if tag.startswith("maillab/agent:"))
    command = f"grep -s {name} /sys/block/loop*/loop/backing_file || true"
    shown: bytes = connect().containers.run(
        image, ["-c", command], entrypoint="sh", network_mode="none", remove=True
    )
    return shown.decode()


def _tags() -> list[str]:
    return [tag for image in connect().images.list() for tag in image.tags]


@pytest.mark.parametrize("while_", ["mounting", "writing"])
def test_a_run_that_is_killed_leaves_no_loop_device(
    while_: str, request: pytest.FixtureRequest
) -> None:
    """The kernel frees them with the last mount, when the watchdog removes the lab."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN_WITH_DISKS, request.config.option.postfix],
        stdout=subprocess.PIPE,
        text=True,
    )
    owner = compose.owner(process.pid)
    assert process.stdout
    name = process.stdout.readline().strip()
    if while_ == "writing":
        assert process.stdout.readline() == "mounted\n"
        assert loop_devices(name).count(name) == 2
    else:
        wait_until(lambda: loop_devices(name))

    process.kill()
    process.communicate()

    wait_until(lambda: not labs_of(owner))
    wait_until(lambda: not loop_devices(name))


def test_a_run_that_is_killed_while_its_lab_comes_up_leaves_nothing(
    request: pytest.FixtureRequest,
) -> None:
    """The watchdog also removes what Compose creates after the run's death."""
    process, owner = run(request.config.option.postfix)
    wait_until(lambda: labs_of(owner))

    process.kill()
    process.communicate()

    wait_until(lambda: not labs_of(owner) and not _compose_of(owner))
    assert not labs_of(owner)


def _compose_of(owner: str) -> bool:
    listed = subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True)
    return f"--project-name maillab_{owner}" in listed.stdout


def test_the_end_of_a_run_removes_its_labs(request: pytest.FixtureRequest) -> None:
    """A run that exits normally removes its labs itself."""
    process, owner = run(request.config.option.postfix)
    process.communicate("")

    assert process.returncode == 0
    assert not labs_of(owner)


def test_sweep_removes_what_a_dead_owner_left_and_nothing_else() -> None:
    """An owner is dead if its pid is not alive, or belongs to another process by now."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    dead = f"{compose.machine()}-{ended.pid}-1"
    ended.wait()
    nets = {
        f"maillab_{dead}_standalone_1": "gone",
        f"maillab_{compose.owner()}_standalone_99": "alive",
        "maillab_0000000000-1-1_standalone_1": "of another machine",
        "maillab_hand_standalone_zz": "by hand",
    }
    made = [
        connect().api.create_network(
            name, internal=True, labels={"com.docker.compose.project": name}
        )["Id"]
        for name in nets
    ]
    try:
        removed = compose.sweep()
        left = [name for name in nets if name in compose.projects()]
    finally:
        for network in made[1:]:
            connect().api.remove_network(network)

    # A parallel run sweeps, too, and may have removed the dead owner's lab first.
    assert left == list(nets)[1:]
    assert not set(left) & set(removed)


def leave(kind: str, folder: Path) -> list[str]:
    """Return a command that leaves its lab up when it exits."""
    maillab = [sys.executable, "-m", "maillab"]
    if kind == "up":
        return [*maillab, "up", "standalone"]
    if kind == "repro --keep":
        (folder / "report.txt").write_text(REPORT)
        return [*maillab, "repro", "--keep", str(folder / "report.txt")]
    (folder / "test_it.py").write_text(KEEP_LABS)
    return [sys.executable, "-m", "pytest", "-q", "--keep-labs", "-p", "no:cacheprovider",
            "-c", os.devnull, "--rootdir", str(folder), str(folder / "test_it.py")]  # fmt: skip


def start(kind: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a command that leaves its lab up; return its process and its owner name."""
    process = subprocess.Popen(
        leave(kind, folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    return process, compose.owner(process.pid)


def all_of(owner: str) -> list[compose.Project]:
    """Return the labs that a process started, whatever their owner is now."""
    return [lab for name, lab in compose.projects().items() if f"_{owner}_" in name]


@pytest.mark.parametrize(
    ("kind", "containers"),
    [("up", 0), ("up", 2), ("up", 6), ("repro --keep", 1), ("repro --keep", 6), ("--keep-labs", 4)],
)
def test_a_lab_belongs_to_the_run_until_it_is_handed_over(
    kind: str, containers: int, tmp_path: Path
) -> None:
    """A run killed at this number of containers leaves no container and no file."""
    process, owner = start(kind, tmp_path)

    def begun() -> bool:
        labs = all_of(owner)
        return bool(labs) and len(labs[0].containers) >= containers

    wait_until(begun, within_s=90)
    before = {lab.owner for lab in all_of(owner)}
    process.kill()
    process.wait()

    assert before == {owner}
    wait_until(lambda: not all_of(owner) and not _compose_of(owner))
    assert not list(tmp_path.glob("maillab-*"))


def test_a_lab_that_was_handed_over_stays_until_it_is_taken_down(tmp_path: Path) -> None:
    """Neither the end of its run nor a sweep removes the lab; ``maillab down`` does."""
    process, owner = start("up", tmp_path)
    assert process.wait(timeout=120) == 0
    compose.sweep()
    (lab,) = all_of(owner)

    assert lab.owner == compose.HAND
    assert len(lab.containers) == 6
    compose.remove(lab.name)
    assert not all_of(owner)


def test_a_lab_that_was_taken_down_in_part_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a command is killed while it removes a lab, the next start removes the rest."""
    process, owner = start("up", tmp_path)
    assert process.wait(timeout=120) == 0
    (lab,) = all_of(owner)
    removals = iter([compose._quietly])

    def killed(*arguments: object, **options: bool) -> None:
        next(removals)(*arguments, **options)  # type: ignore[arg-type]  # whatever they are

    with monkeypatch.context() as patch:
        patch.setattr(compose, "_quietly", killed)
        with pytest.raises((StopIteration, RuntimeError)):
            compose.remove(lab.name)
    (rest,) = all_of(owner)

    assert rest.owner == owner
    compose.sweep()
    assert not all_of(owner)


def test_a_step_of_the_clock_makes_no_owner_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock step changes the start times that the kernel reports; no owner becomes dead."""
    name = compose.owner()
    started = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: started(process) + 1)

    assert compose.is_dead(name) is False
    assert compose.owner() == name


def test_an_owner_is_dead_though_its_pid_exists() -> None:
    """A zombie is dead, and so is another process with the same pid."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as ended:
        name = compose.owner(ended.pid)
        assert compose.is_dead(name) is False
        ended.kill()
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert compose.is_dead(name) is True
    assert compose.is_dead(name) is True
    assert compose.is_dead(f"{compose.machine()}-{os.getpid()}-1") is True


def test_a_programs_name_may_be_anything(tmp_path: Path) -> None:
    """Spaces and parentheses in a program name do not break parsing of /proc/PID/stat."""
    program = tmp_path / "a) Z 1 ("
    program.symlink_to(sys.executable)
    with subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert compose.is_dead(compose.owner(process.pid)) is False


def test_the_helper_that_sets_a_kernel_parameter_belongs_to_the_lab(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short-lived container is removed with the lab even if it never started."""
    process, owner = run(request.config.option.postfix)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    (lab,) = all_of(owner)
    monkeypatch.setattr(type(connect().api), "start", lambda *_, **__: None)

    set_network(lab.containers["mail-net"], {"net.ipv4.ip_no_pmtu_disc": "1"})
    made = connect().api.containers(
        all=True,
        filters={"label": f"com.docker.compose.project={lab.name}", "status": "created"},
    )
    assert len(made) == 1
    assert len(lab.containers) == 6
    assert made[0]["Id"] not in lab.containers.values()
    process.kill()
    process.communicate()

    wait_until(lambda: not all_of(owner))
    with pytest.raises(Exception, match="No such container"):
        connect().api.inspect_container(made[0]["Id"])
