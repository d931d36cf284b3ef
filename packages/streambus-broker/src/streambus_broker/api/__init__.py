"""The requests: one function for each API over `streambus_broker.node.Node`; table in `table`."""
