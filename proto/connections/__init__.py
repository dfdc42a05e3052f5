"""Generated packages of `connections`."""
