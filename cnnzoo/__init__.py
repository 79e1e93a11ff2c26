"""cnnzoo: experiments with convolutional networks, composed by Hydra and trained by PyTorch Lightning."""

import os

__version__ = "0.1.0"

# Before torch is imported: its CPU allocator then asks for huge pages, with which training steps that walk through
# tens of megabytes a layer miss the processor's page tables less (5 to 15 % of a step).
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
