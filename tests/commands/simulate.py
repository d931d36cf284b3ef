"""``hatch run simulate SUBJECT [OPTION ...]``."""

import sys

from tests.commands.dispatch import dispatch

if __name__ == "__main__":
    sys.exit(dispatch("simulate", sys.argv[1:]))
