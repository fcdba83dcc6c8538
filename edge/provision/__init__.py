"""What a root needs before its first bundle: its architecture and system, and its first files."""
