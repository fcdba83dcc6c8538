"""A PLC that is played: its conveyor, its timers and its reject gate, against a running station."""
