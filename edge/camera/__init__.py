"""Cameras behind one protocol: RealSense, recording, folder, virtual RealSense."""
