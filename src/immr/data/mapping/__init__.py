"""From a shop's own columns to the data contract's: names, defaults, number and time formats, expressions."""
