"""Cluster metadata: records, a pure state machine over them, and the shell that keeps them.

Start with `records` (what is known), then `registry` (how it changes), then `store`.
"""
