"""`edge backup` and `edge restore`: everything that one station has, in one signed file."""
