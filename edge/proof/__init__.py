"""Does an engine decide as the trained model, and what is its threshold? numpy and pydantic
only.
"""
