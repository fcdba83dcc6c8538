"""What a training reads: normal parts, their geometry, splits, augmented copies, cached
features.
"""
