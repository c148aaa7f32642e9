"""The service inside a Bento: one model version behind HTTP."""
