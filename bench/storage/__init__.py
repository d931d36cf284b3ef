"""The storage suite in parts: contenders, data, workloads and plots; ``bench_storage`` runs them."""
