"""The running station: the pure pipeline and the service around it."""
