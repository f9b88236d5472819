"""RFC 4252 and 4256: who the user is, asked by the client's half and judged by the server's."""
