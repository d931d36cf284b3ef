"""Benchmarks: one ``bench_<suite>.py`` for each suite; ``hatch run bench`` runs them."""
