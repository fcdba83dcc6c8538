"""`trainer export`: from a run folder to a signed bundle."""
