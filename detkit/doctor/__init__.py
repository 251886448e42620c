"""What a dataset holds, what is wrong with it, and whether a detector can learn it."""
