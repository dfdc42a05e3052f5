"""Generated packages of `messaging`."""
