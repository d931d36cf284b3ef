"""The blocking shell: sockets in the caller's thread, one background pair of threads for submit."""
