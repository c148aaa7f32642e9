"""Changes of the catalogue between two trainings: written down first, then brought to every collection."""
