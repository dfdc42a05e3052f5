"""The workloads, one a module: `run` drives the stack once and returns what it measured."""
