# Sourced by PID 1 (bash) of each container that owns a network namespace. Closes every way out
# of the lab before anything else runs there:
#
#   - the engine's host answers by its bridge: by IPv6 link-local address, by broadcast and
#     multicast, and by any IPv4 address of its own that a socket is bound to the interface
#     for (SO_BINDTODEVICE needs no right). So only the lab's own addresses pass;
#   - the engine's resolver listens at 127.0.0.11 in each namespace and may hand questions on.
#
# IPv6 is shut as a whole. To bring it to a lab, let its prefix pass except the gateway's
# address in it, and of fe80::/10 only neighbour discovery: the bridge has addresses in both.
#
# LAB is the lab's own network; the container has NET_ADMIN until hold() is over.

RULES_FILE=/run/closed.nft

# Print the rules. $1 is the table flag, $2 the interfaces to guard frame by frame, if any.
# A table with an owner (Linux 5.12) can be changed by its owner alone, which is PID 1; the
# egress hook (Linux 5.16) also sees frames that a program made by hand.
closed_rules() {
  gateway=""
  [ -z "$GATEWAYS" ] || gateway="ip daddr { $GATEWAYS } drop"
  cat <<RULES
table inet closed {
  $1
  chain output {
    type filter hook output priority -500
    ip daddr 127.0.0.11 drop
    oifname lo accept
    $gateway
    ip daddr $LAB accept
    drop
  }
  chain forward {
    type filter hook forward priority -500
    $gateway
    ip daddr $LAB accept
    drop
  }
  chain input {
    type filter hook input priority -500
    iifname lo accept
    ip saddr $LAB accept
    drop
  }
}
RULES
  [ -z "$2" ] || cat <<RULES
table netdev closed {
  $1
  chain egress {
    type filter hook egress devices = { $2 } priority -500; policy drop
    $gateway
    ip daddr $LAB accept
    arp daddr ip $LAB accept
  }
  chain ingress {
    type filter hook ingress devices = { $2 } priority -500; policy drop
    ip saddr $LAB accept
    arp saddr ip $LAB accept
  }
}
RULES
}

# Remove the default route, and have nft(8) take the rules as its first command. "closed" on
# descriptor 4 says that it has; hold() must follow in the same process.
shut() {
  GATEWAYS=$(ip route show default | sed -n 's/.* via \([0-9.]*\).*/\1/p' | paste -sd, -)
  ip route del default 2>/dev/null || true
  interfaces=$(ip -o link show | sed -n 's/^[0-9]*: \([^:@]*\).*/\1/p' | grep -vx lo | paste -sd, -)
  for flag in "flags owner" ""; do
    for guarded in "$interfaces" ""; do
      closed_rules "$flag" "$guarded" >$RULES_FILE
      ! nft -c -f $RULES_FILE 2>/run/closed.error || break 2
    done
  done
  mkfifo /run/ask /run/answer
  exec 3<>/run/ask 4<>/run/answer
  rm /run/ask /run/answer
  printf 'include "%s"\nlist tables inet\n' $RULES_FILE >&3
}

# Wait until the rules are in force; for a job in the background.
wait_until_shut() {
  while read -r line <&4; do
    case $line in
      *"table inet closed") return ;;
      *) echo "the way out of the lab cannot be closed: $line" >&2 ;;
    esac
  done
}

# Report that the container's start is complete, see baseline.py.
booted() {
  mkdir -p /run/maillab
  : >/run/maillab/booted
}

# Become the owner of the rules, for as long as the container lives.
hold() {
  # An ignored SIGCHLD stays ignored across exec, so that the kernel reaps for us. (By
  # bash it is; dash(1) does not ignore it.)
  trap '' CHLD
  exec nft -i <&3 >&4 2>&1
}
