"""Twenty scenarios of different entries, as a shell script would do them by hand.

Each has the configuration that the scenario's mail meets, written at once, one start on each
host that takes part, the same mail, and what became of it. A line is ``HOST: COMMAND`` with
the verbs of ``floor.sh``; ``{HOST}`` is an address, and ``all`` every mail host that is named.
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """A scenario: its topology, and what is done by hand."""

    topology: str
    lines: str


_OWN = "$myhostname, localhost.$mydomain, localhost"

CASES = {
    "test_stand_alone.py::test_behaviour_mail_for_a_local_user_is_stored": Case(
        "standalone",
        f"""
        mail: configure 'mydestination = {_OWN}'
        all: start
        remote: send bob joe@mail.example.com
        mail: logged 'to=<joe@mail.example.com>.*delivered to mailbox'
        mail: stored 'Subject: floor' /var/mail/joe
        """,
    ),
    "test_maildir.py::test_cure_the_slash_makes_a_maildir": Case(
        "standalone",
        """
        mail: configure 'home_mailbox = Maildir/'
        all: start
        remote: send bob alice@example.com
        mail: logged 'to=<alice@example.com>.*delivered to maildir'
        mail: stored 'Subject: floor' /home/alice/Maildir/new/*
        """,
    ),
    "test_local_recipient_maps.py::test_cure_the_server_knows_its_users[example.com]": Case(
        "standalone",
        """
        mail: configure 'local_recipient_maps = proxy:unix:passwd.byname $alias_maps'
        all: start
        client: smtp {mail} 550 joe@example.net nosuch@example.com
        """,
    ),
    "test_virtual_unknown_users.py"
    "::test_symptom_own_mail_for_an_undeclared_domain_loops_back": Case(
        "standalone",
        """
        mail: table virtual 'info@virtual.example alice' 'sales@virtual.example joe@example.net'
        mail: configure 'virtual_alias_maps = $default_database_type:/etc/postfix/virtual'
        mail: configure 'virtual_alias_domains ='
        all: start
        mail: send bob nosuch@virtual.example
        mail: logged 'dsn=5.4.6, status=bounced' 'to=<bob@.*delivered to mailbox'
        mail: stored 'Undelivered Mail Returned to Sender' /var/mail/bob
        """,
    ),
    "test_owner_alias.py::test_symptom_without_an_owner_the_poster_hears_of_it": Case(
        "standalone",
        """
        mail: aliases 'list: alice, nosuch, "|exit 67"'
        all: start
        remote: send carol list@example.com
        mail: logged 'delivered to mailbox' 'to=<nosuch@.*bounced' 'to=<list@.*bounced'
        remote: logged 'to=<carol@.*delivered to mailbox'
        mail: stored 'Subject: floor' /var/mail/alice
        remote: stored 'Undelivered Mail Returned to Sender' /var/mail/carol
        """,
    ),
    "test_offsite_restriction.py::test_symptom_whoever_is_trusted_sends_anywhere": Case(
        "standalone",
        """
        mail: table local 'example.com OK'
        mail: table restricted 'joe@example.com local_only'
        mail: configure 'mynetworks = {client}' 'smtpd_restriction_classes = local_only'
        mail: configure 'mydestination = $myhostname, localhost, $mydomain, sub.$mydomain'
        mail: configure 'local_only = check_recipient_access $table:/etc/postfix/local, reject'
        mail: configure 'table = $default_database_type'
        all: start
        client: smtp {mail} 250 joe@example.com joe@example.net
        remote: logged 'to=<joe@example.net>.*delivered to mailbox'
        remote: stored 'Subject: floor' /var/mail/joe
        """,
    ),
    "test_root_mail_to_nobody.py::test_symptom_procmail_stores_roots_mail_for_nobody": Case(
        "standalone",
        """
        mail: configure 'mailbox_command = /usr/bin/procmail'
        all: start
        remote: send bob root@example.com
        mail: logged 'to=<root@example.com>.*delivered to command'
        mail: stored 'Subject: floor' /var/mail/nobody
        """,
    ),
    "test_procmail_systemwide.py::test_symptom_nobody_asks_procmail": Case(
        "standalone",
        """
        mail: configure 'recipient_delimiter = +' 'mailbox_command ='
        all: start
        remote: send bob alice+lists@example.com
        mail: logged 'to=<alice.lists@example.com>.*delivered to mailbox'
        mail: stored 'Subject: floor' /var/mail/alice
        """,
    ),
    "test_host_not_found.py::test_symptom_an_mx_host_without_an_address_returns_mail": Case(
        "standalone",
        """
        mail: configure 'smtp_defer_if_no_mx_address_found = no'
        all: start
        mail: send bob joe@gone.example.org
        mail: logged 'dsn=5.4.4, status=bounced' 'to=<bob@.*delivered to mailbox'
        mail: stored 'Undelivered Mail Returned to Sender' /var/mail/bob
        """,
    ),
    "test_pipe_command_addresses.py::test_behaviour_a_notice_to_such_a_sender_runs_nothing": Case(
        "standalone",
        """
        mail: configure 'local_recipient_maps ='
        all: start
        client: smtp {mail} 250 dave@example.net nosuch@example.com
        mail: logged 'to=<nosuch@example.com>.*status=bounced'
        remote: logged 'to=<dave@example.net>.*delivered to mailbox'
        remote: stored 'Undelivered Mail Returned to Sender' /var/mail/dave
        """,
    ),
    "test_metoo.py::test_symptom_the_poster_gets_a_copy[plain]": Case(
        "standalone",
        """
        mail: aliases 'all: alice, bob'
        all: start
        mail: send alice all
        mail: logged 'to=<alice@.*delivered to mailbox' 'to=<bob@.*delivered to mailbox'
        mail: stored 'Subject: floor' /var/mail/alice /var/mail/bob
        """,
    ),
    "test_domain_in_a_mailbox.py::test_symptom_the_trick_needs_the_delimiter": Case(
        "standalone",
        r"""
        mail: printf '%s\n' '/^(.*)@virtual\.example$/ joe+$1' >/etc/postfix/trick
        mail: configure 'virtual_alias_maps = regexp:/etc/postfix/trick' 'recipient_delimiter ='
        mail: configure 'virtual_alias_domains = virtual.example'
        all: start
        client: smtp {mail} 250 joe@example.net sales@virtual.example
        mail: logged 'to=<joe.sales@.*status=bounced'
        remote: logged 'to=<joe@example.net>.*delivered to mailbox'
        remote: stored 'Undelivered Mail Returned to Sender' /var/mail/joe
        """,
    ),
    "test_backup_mx.py"
    "::test_cure_the_backup_keeps_mail_until_the_primary_is_back[example.org]": Case(
        "backup-mx",
        """
        backup: configure 'relay_domains = example.org'
        backup: start
        sender: start
        sender: send bob alice@example.org
        backup: logged 'to=<alice@example.org>.*status=deferred'
        primary: start
        backup: postqueue -f
        primary: logged 'to=<alice@example.org>.*delivered to mailbox'
        primary: stored 'Subject: floor' /var/mail/alice
        """,
    ),
    "test_open_relay.py::test_behaviour_plain_addresses_of_the_domain_are_welcome": Case(
        "backup-mx",
        """
        all: start
        sender: smtp {primary} 250 bob@sender.example.net alice@example.org
        sender: smtp {backup} 250 bob@sender.example.net alice@example.org
        primary: logged 'to=<alice@example.org>.*delivered to mailbox'
        primary: logged 'to=<alice@example.org>.*delivered to mailbox'
        primary: stored 'Subject: floor' /var/mail/alice
        """,
    ),
    "test_protect_internal_list.py::test_symptom_everybody_writes_to_the_list": Case(
        "backup-mx",
        """
        primary: aliases 'all: alice, bob'
        primary: configure 'mynetworks = 127.0.0.0/8, {victim}' 'smtpd_recipient_restrictions ='
        all: start
        sender: smtp {primary} 250 bob@sender.example.net all@example.org
        primary: logged 'to=<alice@.*delivered to mailbox' 'to=<bob@.*delivered to mailbox'
        primary: stored 'Subject: floor' /var/mail/alice /var/mail/bob
        """,
    ),
    "test_null_client.py::test_symptom_mail_stays_on_a_machine_where_nobody_reads_it": Case(
        "workstations",
        f"""
        nullclient: configure 'myorigin = $myhostname' 'relayhost =' 'inet_interfaces = all'
        nullclient: configure 'mydestination = {_OWN}'
        all: start
        nullclient: send bob joe
        ws1: smtp {{nullclient}} 250 bob@ws1.example.com joe@nullclient.example.com
        nullclient: logged 'to=<joe@.*delivered to mailbox'
        nullclient: logged 'to=<joe@.*delivered to mailbox'
        nullclient: stored 'Subject: floor' /var/mail/joe
        """,
    ),
    "test_workstations_servers.py::test_cure_the_server_takes_the_domain_for_its_own": Case(
        "workstations",
        f"""
        server: configure 'mydestination = {_OWN}, $mydomain'
        all: start
        ws1: send alice dave
        remote: send bob carol@example.com
        server: logged 'to=<dave@.*delivered to mailbox' 'to=<carol@.*delivered to mailbox'
        server: stored 'Subject: floor' /var/mail/dave /var/mail/carol
        """,
    ),
    "test_some_users_local.py::test_symptom_mail_for_local_users_leaves_the_machine[root]": Case(
        "workstations",
        """
        ws1: configure 'virtual_alias_maps =' 'myorigin = $mydomain'
        ws1: configure 'relayhost = [server.example.com]'
        all: start
        ws1: send alice root
        server: logged 'to=<root@example.com>.*delivered to mailbox'
        server: stored 'Subject: floor' /var/mail/root
        """,
    ),
    "test_intranet.py::test_cure_the_gateway_takes_mail_out[host]": Case(
        "intranet",
        """
        workstation: configure 'relayhost = [gateway.example.com]' 'smtp_connect_timeout = 1s'
        all: start
        workstation: send alice joe@example.net
        remote: logged 'to=<joe@example.net>.*delivered to mailbox'
        remote: stored 'Subject: floor' /var/mail/joe
        """,
    ),
    "test_address_masquerading.py"
    "::test_behaviour_recipients_in_the_envelope_are_not_masqueraded": Case(
        "intranet",
        """
        gateway: configure 'masquerade_domains = $mydomain'
        all: start
        gateway: send bob carol@colleague.example.com
        colleague: logged 'to=<carol@colleague.example.com>.*delivered to mailbox'
        colleague: stored 'Subject: floor' /var/mail/carol
        """,
    ),
}
