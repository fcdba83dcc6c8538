"""What a station has recorded, for people: queries over its records and audit table, labels, rates.

Everything here reads line.sqlite and never writes to it; labels have a file of their own.
"""
