"""`trainer benchmark`, without the command line: every system on every category, in the papers'
tables.
"""
