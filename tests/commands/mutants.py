"""``hatch run mutants SUBJECT [OPTION ...]``."""

import sys

from tests.commands.dispatch import dispatch

if __name__ == "__main__":
    sys.exit(dispatch("mutants", sys.argv[1:]))
