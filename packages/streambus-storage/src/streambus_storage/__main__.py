"""``python -m streambus_storage``: see `_cli`."""

import sys

from streambus_storage._cli import main

if __name__ == "__main__":  # pragma: no cover - runs in the processes that tests start
    sys.exit(main())
