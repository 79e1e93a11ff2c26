"""Run folders: written and read, loaded into a data frame, compared, tested and shown. No torch."""
