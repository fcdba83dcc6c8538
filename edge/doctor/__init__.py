"""`edge doctor`: what is right, wrong and unknown of a station and its machine; remedies."""
