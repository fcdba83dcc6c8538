"""The signed bundle file: its manifest, signature and archive, written and read without trust."""
