"""The root of a station: what is installed, whom it trusts, what the site adds, and who may change
it.
"""
