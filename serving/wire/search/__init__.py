"""The fields of a search: what is read from a request, validated, and signed into pages."""
