# Prepares the image: the clock's library, and the configuration of each program.

# The lab's clock expects the library here, on every architecture.
ln -s /usr/lib/*/faketime/libfaketime.so.1 /opt/maillab/libfaketime.so.1
# A topology replaces this file; see compose/secure-transport.yaml.
printf '%s\n' 'server:' '  interface: 127.0.0.1' '  module-config: "iterator"' \
  >/etc/unbound/unbound.conf
# Debian's values, as keys that a scenario can change.
printf '%s\n' 'cache_grace: 60' 'cache:' '  type: sqlite' '  options:' \
  '    filename: /var/lib/mta-sts/cache.db' >/etc/mta-sts-daemon.yml
mkdir -p /var/lib/mta-sts /var/spool/postfix
echo 'Port 443' >/etc/policyhost.conf
