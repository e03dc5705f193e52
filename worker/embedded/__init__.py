"""What `up`, `run` and `demo` need beside the workers: a broker, and child processes."""
