"""`trainer train`: from a folder of images to a run folder."""
