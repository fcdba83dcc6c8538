"""What a board needs before its first bundle: architecture, first files, units."""
