"""`trainer evaluate`: judge images with a trained run, and write what came of it."""
