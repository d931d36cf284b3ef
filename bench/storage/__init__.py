"""The storage suite in parts: contenders, data, workloads, plots; `bench_storage` runs them."""
