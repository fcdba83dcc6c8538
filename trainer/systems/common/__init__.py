"""What the systems share beside their layers."""
