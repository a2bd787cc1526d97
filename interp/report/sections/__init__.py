"""The sections of the report, a file each; the catalogue says which rows a section shows.

A section's file has a `FACE`: what it is called, the function that makes it of a run's contents,
and, where the summary at the top asks its question, that question. It asks the contents for rows of
the catalogue, and returns nothing where there is nothing to show.
"""
