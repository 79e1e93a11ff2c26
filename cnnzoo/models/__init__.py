"""The networks, one file per family. Each maps float images `[N, C, H, W]` to logits `[N, num_classes]`."""
