"""What is learned: each task gives the loop its data, model, batches and figures."""
