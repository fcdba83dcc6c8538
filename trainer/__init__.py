"""What runs on the workstation: train a detector on good parts, evaluate, quantize, prove and pack
it.
"""
