"""Text as windows of tokens, and where it comes from."""
