"""libssh, by ssh-python: python libssh.py PORT USER KEY exec COMMAND | forward PORT."""

import sys

from ssh import options
from ssh.key import import_privkey_file
from ssh.session import Session

port, user, key, what, argument = sys.argv[1:]
session = Session()
session.options_set(options.HOST, "127.0.0.1")
session.options_set(options.USER, user)
session.options_set_port(int(port))
session.connect()
session.userauth_publickey(import_privkey_file(key))
channel = session.channel_new()
if what == "exec":
    channel.open_session()
    channel.request_exec(argument)
    channel.write(sys.stdin.buffer.read())
else:
    channel.open_forward("127.0.0.1", int(argument), "127.0.0.1", 0)
    channel.write(b"ping\n")
channel.send_eof()
for is_stderr, stream in ((False, sys.stdout), (True, sys.stderr)):
    while (got := channel.read(65536, is_stderr=is_stderr))[0] > 0:
        stream.buffer.write(got[1])
    stream.flush()
sys.exit(max(channel.get_exit_status(), 0))
