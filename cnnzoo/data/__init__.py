"""From image files to augmented, normalised batches on the training device.

`sources` and `image_folder` read a data set into uint8 images (`images`), `dataset` splits and normalises it, `augment`
draws and applies crops and flips, `batches` iterates over one epoch, `module` is Lightning's view of it.
"""
