"""A whole config, typed, and how it is read."""
