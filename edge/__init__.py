"""What runs on the device: camera, engine, verdict, line.

Importing it needs neither torch nor a GPU nor a camera library.
"""

import os

# Unless this is set before onnxruntime is imported, its published builds (1.32, Privacy.md) report
# to their maker what they run, with a persistent id of the machine, and keep both under the
# account's home. A station sends data to its line only.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
