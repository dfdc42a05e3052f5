"""`messaging.v1`: history, conversation list and opening."""
