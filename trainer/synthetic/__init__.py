"""Procedural RGB-D parts and their defects."""
