"""``python -m streambus_broker``: the same as ``streambus serve``, for where only modules are."""

import typer

from streambus_broker.commands.serve import serve

if __name__ == "__main__":
    typer.run(serve)
