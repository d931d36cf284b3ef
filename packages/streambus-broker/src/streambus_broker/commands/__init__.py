"""What the broker adds to the ``streambus`` command, registered under ``streambus.commands``.

These modules import nothing heavy at the top: ``streambus --help`` loads them.
"""
