"""`trainer release`: a TUF repository from which stations take their bundles."""
