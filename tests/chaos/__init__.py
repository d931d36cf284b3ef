"""Chaos: a cluster of real processes under load, while processes, network and disks fail."""
