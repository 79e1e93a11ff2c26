"""Images from their source to augmented, normalised batches on the device that trains.

`sources` reads a data set into uint8 tensors, `dataset` splits and describes it, `augment` draws and applies crops and
flips, `batches` puts it together.
"""
