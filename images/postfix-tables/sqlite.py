"""Runs SQL from standard input on a file: ``python3 sqlite.py FILE``.

Debian bullseye's sqlite3 package does not fit the library of its security updates.
"""

import sqlite3
import sys

with sqlite3.connect(sys.argv[1]) as database:
    database.executescript(sys.stdin.read())
