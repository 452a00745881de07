"""All that needs torch: batches, networks, methods, training, runs and their predictions."""
