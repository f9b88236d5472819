"""RFC 4254: channels with their windows, requests, and what is forwarded. No I/O."""
