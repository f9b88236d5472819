"""The ssh-agent protocol (RFC 9987), without I/O: its messages, and the agent that holds keys."""
