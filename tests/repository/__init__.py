"""The repository itself: layout, distributions, documents, contracts."""
