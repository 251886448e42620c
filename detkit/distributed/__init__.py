"""Several processes of one run: who they are, how they start, what they tell of one another."""
