"""What runs on the workstation: train a detector on good parts, evaluate, quantise, prove and pack it."""
