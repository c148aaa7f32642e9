"""A readout for people and programs: tables of text, rows of figures, and a page to send."""
