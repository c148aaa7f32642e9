"""Named data sets, and click logs simulated from them."""
