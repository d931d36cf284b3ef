"""``streambus demo``: the main job for all to see, with a kill -9 in the middle.

Start with `run` (the course of it), then `pump` (sending) and `reader` (the second process).
"""
