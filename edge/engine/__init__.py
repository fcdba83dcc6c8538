"""Engines behind one interface, their builder, and the proof that they decide as the trained model
did.
"""
