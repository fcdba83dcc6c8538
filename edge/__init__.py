"""What runs on the device: camera, engine, verdict, line. Imports no torch and needs no GPU to import."""
