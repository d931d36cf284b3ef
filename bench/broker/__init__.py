"""What a broker process costs: memory, start, pauses."""
