"""Whether a hit is the thing on the photo: calibrated in evaluation, packaged with the version, applied in search."""
