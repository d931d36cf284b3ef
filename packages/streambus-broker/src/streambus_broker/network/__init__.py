"""Connections: admission, framing, budgets and time limits on the asyncio protocol interface.

Start with `connection` (the hot path), then `server`.
"""
