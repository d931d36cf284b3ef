"""Partition logs: pure cores (state, tail, waits, retention) and one shell over the data tree.

Start with `partition` (what a log is), `keys` (how it lies in the tree), then `store`.
"""
