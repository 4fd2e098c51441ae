# PID 1 of the name server's container: closes every way out. NSD cannot open one.
set -eu
# shellcheck source=images/inside/network/closed.sh
. /opt/maillab/closed.sh
shut
(
  wait_until_shut
  python3 /opt/maillab/zones.py
  booted
  # NSD answers queries and sends none. When it ends, its container ends, too.
  setpriv --bounding-set=-net_admin --inh-caps=-net_admin nsd -d -P '' || true
  echo quit >&3
) &
hold
