"""cnnzoo: experiments with convolutional networks, composed by Hydra and trained by PyTorch Lightning."""

__version__ = "0.1.0"
