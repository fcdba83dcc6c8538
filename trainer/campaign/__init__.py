"""`trainer campaign`, without the command line: products x systems x presets x seeds, each a job
with its folder.
"""
