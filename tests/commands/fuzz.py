"""``hatch run fuzz SUBJECT [OPTION ...]``."""

import sys

from tests.commands.dispatch import dispatch

if __name__ == "__main__":
    sys.exit(dispatch("fuzz", sys.argv[1:]))
