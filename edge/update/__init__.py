"""`edge update`: which bundle to run, from a repository, a stick or a fleet server; taken, watched,
and rolled back by itself.
"""
