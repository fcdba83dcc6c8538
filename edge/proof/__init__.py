"""Does this engine decide as the trained model did, and where does its threshold lie? numpy and
pydantic only.
"""
