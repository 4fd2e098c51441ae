"""A helper container that gives a mail host disks; it ends with its channel."""

from __future__ import annotations

from typing import Any

from maillab.engine.channel import PROGRAM, Channel
from maillab.engine.client import connect, engine_errors
from maillab.engine.container import BESIDE, LAB_LABELS
from maillab.errors import HostGone

_MODULES = ("blockdevice",)
_STREAMS = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}


class DiskHelper(Channel):
    """The channel into a new helper, whose program is ``images/inside/network/blockdevice.py``.

    The helper may mount, which no container of a lab may. It shares the mail host's processes,
    and so dies with the host. The engine closes its input when this process ends; then it
    unmounts its disk and exits, and the engine removes it.
    """

    def __init__(self, mail: str, agent: str, name: str) -> None:
        super().__init__("", f"the disk of {name}", _MODULES)
        self._mail = mail
        self._agent = agent

    def _connect(self, modules: tuple[str, ...]) -> Any:
        if self._opened:
            # A new helper would not know the disk of the one that died.
            raise HostGone(f"{self.name}: its helper container went away")
        api = connect().api
        with engine_errors(f"starting the helper for {self.name}"):
            labels = api.inspect_container(self._mail)["Config"]["Labels"]
            created = api.create_container(
                # The agent's image has mkfs.ext4.
                api.inspect_container(self._agent)["Image"],
                list(modules),
                entrypoint=list(PROGRAM),
                stdin_open=True,
                # The lab's labels, so that the helper is removed with the lab.
                labels={**{name: labels[name] for name in LAB_LABELS if name in labels}, **BESIDE},
                host_config=api.create_host_config(
                    network_mode="none",
                    pid_mode=f"container:{self._mail}",
                    # To mount, to look into the mail host's namespaces, and for loop devices.
                    cap_add=["SYS_ADMIN", "SYS_PTRACE"],
                    cap_drop=["NET_RAW"],
                    device_cgroup_rules=["b 7:* rwm", "c 10:237 rwm"],
                    # AppArmor's profile of containers forbids mount(2).
                    security_opt=["no-new-privileges", "apparmor=unconfined"],
                    # For the limit of the mail host's writes.
                    cgroupns="host",
                    binds=["/sys/fs/cgroup:/cgroup"],
                    auto_remove=True,
                ),
            )
            try:
                wrapped = api.attach_socket(created["Id"], _STREAMS)
                api.start(created["Id"])
            except BaseException:
                api.remove_container(created["Id"], force=True)
                raise
        return wrapped
