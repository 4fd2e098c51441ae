"""A block device of its own for a folder of a mail host."""

from __future__ import annotations

from maillab.engine.channel import Channel
from maillab.engine.diskhelper import DiskHelper
from maillab.errors import EngineGone, HostGone, LabError, Unsupported

_UNMOUNTED_WITHIN_S = 60.0


class Disk:
    """A folder of a mail host on a block device of its own, with what it holds.

    With ``writes_per_s`` the device is that slow. With ``returns`` everything moves back
    when the disk is removed; stop what uses the folder before that. Raise Unsupported if the
    engine or its kernel cannot do it.
    """

    def __init__(
        self,
        name: str,
        mail: Channel,
        agent: Channel,
        path: str,
        *,
        writes_per_s: int = 0,
        returns: bool = False,
    ) -> None:
        self.path = path
        self._helper = DiskHelper(mail.container, agent.container, f"{path} on {name}")
        try:
            made = self._helper.call(
                "disk_mount",
                path=path,
                name=f"maillab {mail.container[:12]}",
                writes_per_s=writes_per_s,
                returns=returns,
            )
        except LabError as error:
            self._helper.close()
            if isinstance(error, HostGone) and not isinstance(error, EngineGone):
                raise Unsupported(str(error)) from error
            raise
        if made["lacks"]:
            self._helper.close()
            raise Unsupported(f"{name}: no disk for {path}: this needs {made['lacks']}")
        self._number = made["disk"]

    def remove(self) -> None:
        """Unmount the disk; its content moves back, or is lost."""
        try:
            self._helper.call("disk_unmount", disk=self._number, timeout_s=_UNMOUNTED_WITHIN_S)
        finally:
            self._helper.close()

    def leave(self) -> None:
        """Leave the disk mounted as long as the host's container runs."""
        self._helper.call("leave")
        self._helper.close()

    def close(self) -> None:
        """Close the channel, which ends the helper and the disk."""
        self._helper.close()
