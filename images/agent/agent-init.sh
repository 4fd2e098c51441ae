# PID 1 of an agent: names come from the lab's DNS only, and no route leads out.
set -eu
ip route del default 2>/dev/null || true
# ROUTES holds what stands after "ip route add", one route a line.
printf '%s\n' "${ROUTES:-}" | while read -r route; do
  # shellcheck disable=SC2086
  [ -z "$route" ] || ip route add $route
done
# RULES is the packet filter of a host that has one (nft(8)).
[ -z "${RULES:-}" ] || printf '%s' "$RULES" | nft -f -
echo "127.0.0.1 localhost" >/etc/hosts
# Written last, in one write: Postfix, which shares this file, waits for it.
printf '# maillab\nnameserver %s\noptions timeout:2\n' "$NAMESERVER" >/etc/resolv.conf
# An ignored SIGCHLD stays ignored across exec, so that the kernel reaps for us.
trap '' CHLD
exec sleep infinity
