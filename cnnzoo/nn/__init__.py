"""What networks have in common: shared layers, building, profiling, weights, and faster training."""
