"""``python -m maillab`` is the command ``maillab``."""

import sys

from maillab.cli import main

sys.exit(main())
