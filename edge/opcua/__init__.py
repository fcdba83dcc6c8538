"""The OPC UA server of a station: a process of its own, which speaks to `edge run` over a socket.

Only edge/opcua/server.py and what it imports need asyncua, and only `edge opcua` imports those.
"""
