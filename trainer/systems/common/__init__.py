"""What the systems have in common: their frame, sizes, foreground, cached views, levels, whitening
and the training of depth's encoder.
"""
