"""What a cluster of three brokers on one machine can do, part by part."""
