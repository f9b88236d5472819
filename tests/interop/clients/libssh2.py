"""libssh2, by ssh2-python: python libssh2.py PORT USER KEY exec COMMAND | forward PORT."""

import socket
import sys

from ssh2.session import Session

port, user, key, what, argument = sys.argv[1:]
session = Session()
session.handshake(socket.create_connection(("127.0.0.1", int(port))))
session.userauth_publickey_fromfile(user, key)
if what == "exec":
    channel = session.open_session()
    channel.execute(argument)
    channel.write(sys.stdin.buffer.read())
else:
    channel = session.direct_tcpip("127.0.0.1", int(argument))
    channel.write(b"ping\n")
channel.send_eof()
for read, stream in ((channel.read, sys.stdout), (channel.read_stderr, sys.stderr)):
    while (got := read(65536))[0] > 0:
        stream.buffer.write(got[1])
    stream.flush()
channel.close()
channel.wait_closed()
sys.exit(channel.get_exit_status())
