# Sourced by PID 1 (bash) of each container that owns a network namespace. Closes every way out
# of the lab before anything else runs there:
#
#   - the engine's host answers by its bridge: by IPv6 link-local address, by broadcast and
#     multicast, and by any IPv4 address of its own that a socket is bound to the interface
#     for (SO_BINDTODEVICE needs no right). So only the lab's own addresses pass;
#   - the engine's resolver listens at 127.0.0.11 in each namespace and may hand questions on.
#
# A lab's IPv6 addresses are its IPv4 addresses behind 2001:db8::, the prefix for documentation
# (RFC 3849), and behind fe80:: on the link. The engine knows neither: its bridge carries the
# frames, but has no address in these prefixes. So they pass, and of multicast only the question
# for a neighbour among them. That closes fe80:: of the bridge, router advertisements and MLD.
#
# LAB is the lab's own network; the container has NET_ADMIN until hold() is over.

RULES_FILE=/run/closed.nft
IPV6=/proc/sys/net/ipv6/conf

# Set REPLY to the lab's IPv6 address or network for an IPv4 one, $2, behind the prefix $1.
# (Functions here set variables and start no programs: each would make a lab's start longer.)
behind() {
  REPLY=$1${2%/*}
  case $2 in */*) REPLY+=/$((96 + ${2#*/})) ;; esac
}

# Print the rules. $1 is the table flag, $2 the interfaces to guard frame by frame, if any.
# A table with an owner (Linux 5.12) can be changed by its owner alone, which is PID 1; the
# egress hook (Linux 5.16) also sees frames that a program made by hand.
closed_rules() {
  local gateway="" address lab6 neighbours
  for address in $GATEWAYS; do
    gateway+="ip daddr $address drop; ip6 daddr { 2001:db8::$address, fe80::$address } drop; "
  done
  behind 2001:db8:: "$LAB" && lab6="$REPLY"
  behind fe80:: "$LAB" && lab6="{ $lab6, $REPLY }"
  neighbours="ip6 daddr ff02::1:ff00:0/104 icmpv6 type nd-neighbor-solicit icmpv6 taddr $lab6"
  cat <<RULES
table inet closed {
  $1
  chain output {
    type filter hook output priority -500
    ip daddr 127.0.0.11 drop
    oifname lo accept
    $gateway
    icmpv6 type nd-redirect drop
    ip daddr $LAB accept
    ip6 daddr $lab6 accept
    $neighbours accept
    drop
  }
  chain forward {
    type filter hook forward priority -500
    $gateway
    ip daddr $LAB accept
    ip6 daddr $lab6 accept
    drop
  }
  chain input {
    type filter hook input priority -500
    iifname lo accept
    ip saddr $LAB accept
    ip6 saddr $lab6 accept
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
    ip6 daddr $lab6 accept
    $neighbours accept
  }
  chain ingress {
    type filter hook ingress devices = { $2 } priority -500; policy drop
    ip saddr $LAB accept
    arp saddr ip $LAB accept
    ip6 saddr $lab6 accept
  }
}
RULES
}

# Set GATEWAYS, INTERFACES and OWN (interface and address with its length) from the kernel.
look() {
  local word
  GATEWAYS="" INTERFACES="" OWN=()
  while read -r -a word; do
    case "${word[0]} ${word[1]} ${word[2]}" in
      "default via "*) GATEWAYS+="${word[2]} " ;;
      *": lo "* | *": lo: "*) ;;
      *": "*" inet") OWN+=("${word[1]} ${word[3]}") ;;
      *": "*": <"*) INTERFACES+="${INTERFACES:+, }${word[1]%%[@:]*}" ;;
    esac
  done < <(ip -o -batch - <<<$'route show default\nlink show\naddr show')
}

# Give each interface an IPv6 address for each IPv4 address that it has, unless IPv6 is off.
# Duplicate address detection would hold them back for a second; the engine gave out the numbers.
# They are "deprecated" (RFC 6724 section 5, rule 3): a program that looks up a name and may use
# both versions tries IPv4 first, as in labs before IPv6, and Postfix as its settings say.
have_ipv6() {
  local off=1 device address mtu word part batch
  [ ! -d $IPV6 ] || read -r off <$IPV6/default/disable_ipv6
  [ "$off" = 0 ] || return 0
  # What the engine may have set: addresses of a network of its own, a way out.
  batch="route flush default"
  for device in ${INTERFACES//,/}; do
    batch+=$'\n'"addr flush dev $device"
    read -r off <$IPV6/"$device"/disable_ipv6
    [ "$off" = 1 ] || continue
    # Engines since 28 turn IPv6 off on each interface of a network without it, and nothing here
    # can write in /proc/sys. Below IPv6's smallest MTU the kernel forgets the interface's
    # settings; then it begins again with the default ones.
    read -r mtu </sys/class/net/"$device"/mtu
    batch+=$'\n'"link set $device mtu 1279"$'\n'"link set $device mtu $mtu"$'\n'"addr flush dev $device"
  done
  for address in "${OWN[@]}"; do
    device=${address% *} address=${address#* }
    behind 2001:db8:: "$address"
    batch+=$'\n'"addr add $REPLY dev $device nodad valid_lft forever preferred_lft 0"
    batch+=$'\n'"addr add fe80::${address%/*}/64 dev $device nodad"
  done
  # A host's further addresses, in its first network (agent-init.sh).
  for address in ${ADDRESSES:-}; do
    behind 2001:db8:: "$address/${OWN[0]#*/}"
    batch+=$'\n'"addr add $REPLY dev ${OWN[0]% *} nodad valid_lft forever preferred_lft 0"
  done
  # IPv4's routes, through the same routers.
  while read -r -a word; do
    [ ${#word[@]} != 0 ] || continue
    batch+=$'\n'"route add"
    for part in "${word[@]}"; do
      case $part in [0-9]*.*) behind 2001:db8:: "$part" && part=$REPLY ;; esac
      batch+=" $part"
    done
  done <<<"${ROUTES:-}"
  ip -6 -force -batch - <<<"$batch" || echo "IPv6 of this host is incomplete" >&2
}

# Remove the default route, and have nft(8) take the rules as its first command. "closed" on
# descriptor 4 says that it has; hold() must follow in the same process.
shut() {
  look
  ip route del default 2>/dev/null || true
  have_ipv6
  for flag in "flags owner" ""; do
    for guarded in "$INTERFACES" ""; do
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
