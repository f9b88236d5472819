"""Formats of keys and of trust, without I/O: bytes come in, bytes go out.

`openssh`, `pem` and `putty` are private keys, `convert` other programs' forms, `public` the line of a
`.pub` file, `certificate` what an authority signed about a key, `fingerprint` what people compare,
`known_hosts` whom a client trusts, `authorized_keys` whom a server lets in, `patterns` how both kinds of
trust name hosts, `krl` and `revoked` what counts no more, `sshsig` and `allowed_signers` signatures of
files.
"""
