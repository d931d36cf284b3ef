"""``python -m streambus_broker``: the same as ``streambus serve``, for where only modules are."""

import sys

from streambus_broker.commands.serve import run_arguments

if __name__ == "__main__":
    sys.exit(run_arguments(sys.argv[1:]))
