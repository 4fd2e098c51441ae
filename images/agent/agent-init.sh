# PID 1 of an agent: names come from the lab's DNS only, and every way out is closed.
set -eu
# shellcheck source=images/inside/network/closed.sh
. /opt/maillab/closed.sh
shut
# ROUTES holds the arguments of "ip route add", one route per line.
printf '%s\n' "${ROUTES:-}" | while read -r route; do
  # shellcheck disable=SC2086
  [ -z "$route" ] || ip route add $route
done
# ADDRESSES are the host's further addresses in its network.
for address in ${ADDRESSES:-}; do
  ip addr add "$address/24" dev "$(ip -o route get "$NAMESERVER" | sed 's/.* dev \([^ ]*\).*/\1/')"
done
# RULES is the packet filter (nft(8)) of a host that has one.
[ -z "${RULES:-}" ] || printf '%s' "$RULES" | nft -f -
echo "127.0.0.1 localhost" >/etc/hosts
(
  wait_until_shut
  # RESOLVER is a host's own, which asks the lab's name server.
  # Written last, in one write: Postfix, which shares this file, waits for it.
  printf '# maillab\nnameserver %s\noptions timeout:2\n' "${RESOLVER:-$NAMESERVER}" >/etc/resolv.conf
  booted
) &
hold
