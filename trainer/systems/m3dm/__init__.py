"""M3DM: memory banks of color, point and fused features."""
