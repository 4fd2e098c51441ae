"""A front: the machine that clients reach, before a mail server with another address.

It is a NAT, as a container engine's published ports are, or a balancer (HAProxy).
"""

from __future__ import annotations

from typing import Literal

from maillab.engine.channel import Channel
from maillab.errors import BadInput, UnknownName
from maillab.hosts.serverhost import ServerHost
from maillab.scenario.state import ScenarioState
from maillab.site.topology import Role

Protocol = Literal["", "v1", "v2"]
_SENDS: dict[str, str] = {"": "", "v1": "send-proxy", "v2": "send-proxy-v2"}
_CONFIGURATION = "/etc/haproxy/haproxy.cfg"
# The first rule for a connection counts: these are before those of the topology. Each has a
# table of its own, with the prefix of the tables that a reset removes (packetfilter.py).
_BALANCER = "maillab_filter_balancer"
_REWRITING = "maillab_filter_rewriting"
_TO_BALANCER = """
table ip {table} {{
  chain prerouting {{
    type nat hook prerouting priority dstnat - 10;
    ip daddr {published} tcp dport {{ 25, 465, 587 }} redirect
  }}
}}
"""
_REWRITES_SOURCE = """
table ip {table} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat - 10;
    ct status dnat snat to {inner}
  }}
}}
"""


class FrontHost(ServerHost):
    """A host that clients connect to instead of the mail server behind it.

    In its initial state it is a NAT that keeps the clients' addresses. ``address`` is the
    public one; the mail server sees ``inner`` where the source address is rewritten, and as
    the balancer's. Each change lasts until the reset.
    """

    configuration = (_CONFIGURATION,)

    def __init__(
        self, role: Role, net: str, agent: Channel, server: Channel, scenario: ScenarioState
    ) -> None:
        super().__init__(role, net, agent, server, scenario)
        self.mail_name = role.publishes
        self.inner = f"{net}.{role.inner_number}"

    def nat(self, *, rewrites_source: bool) -> None:
        """Publish the ports by NAT, as a container engine does.

        With ``rewrites_source`` every client has the address ``inner`` at the mail server, as
        with Docker's userland proxy or a masquerading rule.
        """
        what = "all from this host" if rewrites_source else "with the clients' addresses"
        self._advise("NAT", f"ports 25, 465 and 587, {what}")
        self._remove(_BALANCER, _REWRITING)
        if rewrites_source:
            rules = _REWRITES_SOURCE.format(table=_REWRITING, inner=self.inner)
            self.agent.call("filter_add", rules=rules)

    def balancer(self, protocol: Protocol = "", *, check: str = "") -> None:
        """Publish the ports by HAProxy, and let it send the PROXY protocol, v1 or v2.

        Without ``protocol`` HAProxy passes on bytes alone. ``check`` are options of its
        ``server`` lines, such as "check inter 500ms" (Configuration Manual 5.2).
        """
        if protocol not in _SENDS:
            raise UnknownName.among("PROXY protocol", protocol, list(_SENDS)[1:])
        options = f"{_SENDS[protocol]} {check}".strip()
        self._instruct(options)
        self._advise("haproxy.cfg", f"server … {options}".strip())
        self._remove(_BALANCER)
        rules = _TO_BALANCER.format(table=_BALANCER, published=self.address)
        self.agent.call("filter_add", rules=rules)
        self.channel.call("set_server_options", options=options)
        self.channel.restart_later("balancer")

    def configure(self, text: str) -> None:
        """Replace HAProxy's configuration; it restarts before the next request to the lab.

        Raise BadInput with HAProxy's words for one that it does not take.
        """
        self._instruct(text)
        self._advise("haproxy.cfg", text)
        if error := self.channel.call("replace_configuration", text=text)["error"]:
            raise BadInput(
                f"{self.name}: HAProxy refuses {_CONFIGURATION}: {error}; see docs.haproxy.org"
            )
        self.channel.restart_later("configure")

    def _remove(self, *tables: str) -> None:
        for table in tables:
            self.agent.call("filter_remove", table=table)

    @property
    def version(self) -> str:
        """The version that HAProxy reports, such as 3.0.11."""
        return self._run_tool("haproxy", "-v").stdout.split()[2].partition("-")[0]
