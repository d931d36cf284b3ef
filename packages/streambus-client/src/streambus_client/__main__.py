"""``python -m streambus_client`` is the ``streambus`` command."""

from streambus_client._cli import main

if __name__ == "__main__":
    main()
