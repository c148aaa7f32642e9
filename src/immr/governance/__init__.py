"""From a raw click log to a training set of classes, with a manifest and a report."""
