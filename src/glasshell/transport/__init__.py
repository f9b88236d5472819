"""RFC 4253: identification, binary packets, key exchange, and what may be sent when."""
