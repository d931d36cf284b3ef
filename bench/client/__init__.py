"""The parts of the client suite: servers that start and stop, latencies, throughputs."""
