"""What is trained once without labels and used as it is: encoders for detectors that take theirs from a file."""
