"""From image files to augmented, normalised batches on the training device.

`sources`, `image_folder` and `huggingface` read a data set into uint8 images (`images`; `decoding` decodes files once),
`corruptions` has other test images, `dataset` splits and normalises, `augment` draws and applies crops and flips,
`batches` iterates over one epoch, `loaders` is Lightning's view of it.
"""
