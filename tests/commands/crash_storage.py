"""``hatch run crash-storage [--minutes N]``: kill a writing process, again and again."""

import sys

from tests.storage.crash import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
