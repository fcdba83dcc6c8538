"""Parts of detectors that are trained once, on whatever images there are, and reused for every product."""
