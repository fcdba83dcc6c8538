"""What runs on the device: camera, engine, verdict, line.

Imports no torch and needs no GPU to import.
"""

import os

# onnxruntime's own builds (1.32, Privacy.md) send what they run, with a persistent id of the
# machine, to their maker, and keep both under the account's home, unless this is set before they
# are imported. A station tells its line only.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
