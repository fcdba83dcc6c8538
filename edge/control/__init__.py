"""The Unix socket of a running station: what is said over it, the server in `edge run`, the client
in other processes.
"""
