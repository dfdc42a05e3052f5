"""`connections.v1`: who is connected with whom."""
