"""Whether a hit is the item in the photo: calibrated in evaluation, packaged with the version, applied in search."""
