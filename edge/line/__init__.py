"""The line: messages, MQTT, and the outbox that loses nothing."""
