"""The networks, one file a family. Each maps float images `[N, C, H, W]` to logits `[N, num_classes]`."""
