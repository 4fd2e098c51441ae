# Prepares the image: the configuration of each filter, and users that may read it.

# The lab's clock expects the library here, on every architecture.
ln -s /usr/lib/*/faketime/libfaketime.so.1 /opt/maillab/libfaketime.so.1
# Debian's files, with a socket on loopback. A topology, or a scenario, replaces them.
mkdir -p /etc/default
cp /opt/maillab/opendkim.conf /opt/maillab/opendmarc.conf /opt/maillab/authcheck.conf \
  /opt/maillab/oauth2.conf /etc/
cp /opt/maillab/policyd-spf.conf /etc/postfix-policyd-spf-python/
printf 'POSTGREY_OPTS="--inet=127.0.0.1:10023"\n' >/etc/default/postgrey
# rspamd: the proxy speaks the Milter protocol and scans by itself. Modules that ask servers on
# the Internet are off. It compiles the list of public suffixes at each start, which takes ten
# seconds for Debian's; the lab's names need a few.
cd /etc/rspamd/local.d || exit
cat >worker-proxy.inc <<END
milter = yes;
bind_socket = "127.0.0.1:11332";
timeout = 20s;
count = 1;
upstream "local" { default = yes; self_scan = yes; }
END
for name in worker-controller.inc worker-fuzzy.inc worker-normal.inc asn.conf fuzzy_check.conf \
  phishing.conf rbl.conf surbl.conf; do
  echo 'enabled = false;' >"$name"
done
printf '%s\n' com edu example net org test >/opt/maillab/suffixes
echo 'url_tld = "/opt/maillab/suffixes"; disable_hyperscan = true;' >options.inc
echo 'type = "syslog"; facility = "mail";' >logging.inc
echo 'use = ["authentication-results"];' >milter_headers.conf
echo 'actions = { reject = "reject"; quarantine = "add_header"; }' >dmarc.conf
install -d -o _rspamd /run/rspamd
# A secret of each lab's own, made at its start.
rm -f /etc/postsrsd.secret
# A socket in the queue belongs to a number: no user of a mail host may have the same.
mkdir /etc/own
echo 'Socket inet:8897@127.0.0.1' >/etc/own/filter.conf
for user in opendkim opendmarc postgrey postsrsd _rspamd; do
  old=$(id -u "$user") number=$(($(id -u "$user") + 800))
  usermod -u "$number" "$user"
  groupmod -g "$number" "$user"
  find / -xdev -uid "$old" -exec chown -h "$user:$user" {} +
done
# The queue is the mail host's volume: the engine would fill it from here, too.
find /var/spool/postfix -mindepth 1 -delete
