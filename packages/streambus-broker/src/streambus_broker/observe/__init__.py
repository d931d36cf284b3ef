"""Logs, metrics, health and traces. Imported lazily: starting must not wait for them."""
