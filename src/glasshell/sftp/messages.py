"""SFTP version 3 (draft-ietf-secsh-filexfer-02) and OpenSSH's extensions: the packets of the context `sftp`.

A packet stands in a channel's data after a uint32, its length; what is declared here begins with the
packet's type. What an extended request carries is in `EXTENDED_REQUESTS` by the request's name; the bytes
of its reply are read by the structure in `EXTENDED_REPLIES` of whoever knows which request it answers.
"""

import enum
from typing import Annotated, Final, TypeAlias

from ..messages.declare import (
    U32,
    U64,
    Body,
    Bytes,
    Code,
    Content,
    Items,
    Message,
    Nested,
    Rest,
    Struct,
    Text,
    body,
    by_name,
    doc,
    message,
)

CONTEXT: Final = "sftp"
DRAFT: Final = "draft-ietf-secsh-filexfer-02"
OPENSSH: Final = "OpenSSH PROTOCOL"


class Status(enum.IntEnum):
    """draft-ietf-secsh-filexfer-02 §7: what became of a request, without the prefix SSH_FX_."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    OP_UNSUPPORTED = 8


class OpenFlag(enum.IntFlag):
    """draft-ietf-secsh-filexfer-02 §6.3: how a file is opened, without the prefix SSH_FXF_."""

    READ = 0x01
    WRITE = 0x02
    APPEND = 0x04
    CREAT = 0x08
    TRUNC = 0x10
    EXCL = 0x20


class AttrFlag(enum.IntFlag):
    """draft-ietf-secsh-filexfer-02 §5: which attributes follow, without the prefix SSH_FILEXFER_ATTR_."""

    SIZE = 0x00000001
    UIDGID = 0x00000002
    PERMISSIONS = 0x00000004
    ACMODTIME = 0x00000008
    EXTENDED = 0x80000000


@body(None, clause=f"{DRAFT} 4")
class Extension(Struct):
    """One extension of the server, or one attribute of a kind of its own."""

    name: Text
    data: Bytes = doc("of a form that the name tells; OpenSSH: a version number in digits")


Extensions: TypeAlias = Annotated[tuple[Extension, ...], Items(Extension, counted=False)]
Extended: TypeAlias = Annotated[tuple[Extension, ...], Items(Extension, counted=True)]


@body(None, clause=f"{DRAFT} 5")
class Attrs(Struct):
    """The attributes of a file: those that `flags` announces."""

    flags: U32 = doc(
        "AttrFlag: 1 size, 2 uid and gid, 4 permissions, 8 times, 0x80000000 extended", default=0
    )
    size: U64 | None = doc("bytes", present_if="flags", bits=AttrFlag.SIZE, default=None)
    uid: U32 | None = doc("user", present_if="flags", bits=AttrFlag.UIDGID, default=None)
    gid: U32 | None = doc("group", present_if="flags", bits=AttrFlag.UIDGID, default=None)
    permissions: U32 | None = doc(
        "st_mode of stat(2)", present_if="flags", bits=AttrFlag.PERMISSIONS, default=None
    )
    atime: U32 | None = doc("seconds since 1970", present_if="flags", bits=AttrFlag.ACMODTIME, default=None)
    mtime: U32 | None = doc("seconds since 1970", present_if="flags", bits=AttrFlag.ACMODTIME, default=None)
    extended: Extended | None = doc("", present_if="flags", bits=AttrFlag.EXTENDED, default=None)


Attributes: TypeAlias = Annotated[Attrs, Nested(Attrs)]
StatusCode: TypeAlias = Annotated[int, Code(Status)]


# --- the beginning


@message(1, "SSH_FXP_INIT", clause=f"{DRAFT} 4", context=CONTEXT)
class Init(Message):
    """The client's first packet. It has no request id."""

    version: U32
    extensions: Extensions = doc("none in practice", default=())


@message(2, "SSH_FXP_VERSION", clause=f"{DRAFT} 4", context=CONTEXT)
class Version(Message):
    """The server's first packet. It has no request id."""

    version: U32 = doc("the smaller of the two sides'")
    extensions: Extensions = ()


# --- requests


@message(3, "SSH_FXP_OPEN", clause=f"{DRAFT} 6.3", context=CONTEXT)
class Open(Message):
    """Opens a file, or creates it."""

    id: U32
    path: Text
    pflags: U32 = doc("OpenFlag: 1 read, 2 write, 4 append, 8 create, 16 truncate, 32 exclusive")
    attrs: Attributes = doc("for a file that is created")


@message(4, "SSH_FXP_CLOSE", clause=f"{DRAFT} 6.3", context=CONTEXT)
class Close(Message):
    """Closes a file or directory."""

    id: U32
    handle: Bytes


@message(5, "SSH_FXP_READ", clause=f"{DRAFT} 6.4", context=CONTEXT)
class Read(Message):
    """Reads from a file; fewer bytes may come."""

    id: U32
    handle: Bytes
    offset: U64 = doc("bytes from the beginning")
    length: U32 = doc("bytes wanted")


@message(6, "SSH_FXP_WRITE", clause=f"{DRAFT} 6.4", context=CONTEXT)
class Write(Message):
    """Writes to a file."""

    id: U32
    handle: Bytes
    offset: U64 = doc("bytes from the beginning")
    data: Content


@message(7, "SSH_FXP_LSTAT", clause=f"{DRAFT} 6.8", context=CONTEXT)
class Lstat(Message):
    """Asks for attributes; a symbolic link is not followed."""

    id: U32
    path: Text


@message(8, "SSH_FXP_FSTAT", clause=f"{DRAFT} 6.8", context=CONTEXT)
class Fstat(Message):
    """Asks for the attributes of an open file."""

    id: U32
    handle: Bytes


@message(9, "SSH_FXP_SETSTAT", clause=f"{DRAFT} 6.9", context=CONTEXT)
class Setstat(Message):
    """Sets attributes."""

    id: U32
    path: Text
    attrs: Attributes


@message(10, "SSH_FXP_FSETSTAT", clause=f"{DRAFT} 6.9", context=CONTEXT)
class Fsetstat(Message):
    """Sets the attributes of an open file."""

    id: U32
    handle: Bytes
    attrs: Attributes


@message(11, "SSH_FXP_OPENDIR", clause=f"{DRAFT} 6.7", context=CONTEXT)
class Opendir(Message):
    """Opens a directory to read its names."""

    id: U32
    path: Text


@message(12, "SSH_FXP_READDIR", clause=f"{DRAFT} 6.7", context=CONTEXT)
class Readdir(Message):
    """Reads the next names of a directory."""

    id: U32
    handle: Bytes


@message(13, "SSH_FXP_REMOVE", clause=f"{DRAFT} 6.5", context=CONTEXT)
class Remove(Message):
    """Removes a file."""

    id: U32
    path: Text


@message(14, "SSH_FXP_MKDIR", clause=f"{DRAFT} 6.6", context=CONTEXT)
class Mkdir(Message):
    """Makes a directory."""

    id: U32
    path: Text
    attrs: Attributes


@message(15, "SSH_FXP_RMDIR", clause=f"{DRAFT} 6.6", context=CONTEXT)
class Rmdir(Message):
    """Removes an empty directory."""

    id: U32
    path: Text


@message(16, "SSH_FXP_REALPATH", clause=f"{DRAFT} 6.11", context=CONTEXT)
class Realpath(Message):
    """Asks for the absolute form of a path."""

    id: U32
    path: Text


@message(17, "SSH_FXP_STAT", clause=f"{DRAFT} 6.8", context=CONTEXT)
class Stat(Message):
    """Asks for attributes; a symbolic link is followed."""

    id: U32
    path: Text


@message(18, "SSH_FXP_RENAME", clause=f"{DRAFT} 6.5", context=CONTEXT)
class Rename(Message):
    """Renames a file; it is an error where the new name exists."""

    id: U32
    old_path: Text
    new_path: Text


@message(19, "SSH_FXP_READLINK", clause=f"{DRAFT} 6.10", context=CONTEXT)
class Readlink(Message):
    """Asks where a symbolic link points."""

    id: U32
    path: Text


@message(20, "SSH_FXP_SYMLINK", clause=f"{OPENSSH} 4.1", context=CONTEXT)
class Symlink(Message):
    """Makes a symbolic link. The paths are in OpenSSH's order; the draft (6.10) has the other one."""

    id: U32
    target_path: Text = doc("where the link points")
    link_path: Text = doc("the link")


# --- responses


@message(101, "SSH_FXP_STATUS", clause=f"{DRAFT} 7", context=CONTEXT)
class StatusReply(Message):
    """What became of a request."""

    id: U32
    code: StatusCode
    message: Text
    language: Text = doc("language tag (RFC 1766)", default="")


@message(102, "SSH_FXP_HANDLE", clause=f"{DRAFT} 7", context=CONTEXT)
class Handle(Message):
    """The open file or directory, as later requests name it."""

    id: U32
    handle: Bytes = doc("at most 256 bytes that only the server understands")


@message(103, "SSH_FXP_DATA", clause=f"{DRAFT} 7", context=CONTEXT)
class Data(Message):
    """What was read of a file."""

    id: U32
    data: Content


@body(None, clause=f"{DRAFT} 7")
class NameEntry(Struct):
    """One name of a directory."""

    filename: Text
    longname: Text = doc("a line as `ls -l` prints it")
    attrs: Attributes


NameEntries: TypeAlias = Annotated[tuple[NameEntry, ...], Items(NameEntry, counted=True)]


@message(104, "SSH_FXP_NAME", clause=f"{DRAFT} 7", context=CONTEXT)
class Names(Message):
    """Names, with their attributes."""

    id: U32
    names: NameEntries


@message(105, "SSH_FXP_ATTRS", clause=f"{DRAFT} 7", context=CONTEXT)
class AttrsReply(Message):
    """The attributes asked for."""

    id: U32
    attrs: Attributes


# --- extensions

EXTENDED_REQUESTS: Final[dict[str, type[Struct]]] = {}
"""What SSH_FXP_EXTENDED carries, by the name of the request."""

EXTENDED_REPLIES: Final[dict[str, type[Struct]]] = {}
"""What SSH_FXP_EXTENDED_REPLY carries, by the name of the request that it answers."""


@body(EXTENDED_REQUESTS, "posix-rename@openssh.com", clause=f"{OPENSSH} 4.3")
class PosixRename(Struct):
    """Renames a file as rename(2) does: what has the new name is replaced."""

    old_path: Text
    new_path: Text


@body(EXTENDED_REQUESTS, "statvfs@openssh.com", clause=f"{OPENSSH} 4.4")
class Statvfs(Struct):
    """Asks about the file system that holds a path."""

    path: Text


@body(EXTENDED_REQUESTS, "fstatvfs@openssh.com", clause=f"{OPENSSH} 4.4")
class Fstatvfs(Struct):
    """Asks about the file system that holds an open file."""

    handle: Bytes


@body(EXTENDED_REQUESTS, "hardlink@openssh.com", clause=f"{OPENSSH} 4.5")
class Hardlink(Struct):
    """Gives a file a second name."""

    old_path: Text
    new_path: Text


@body(EXTENDED_REQUESTS, "fsync@openssh.com", clause=f"{OPENSSH} 4.6")
class Fsync(Struct):
    """Has an open file written to the disk."""

    handle: Bytes


@body(EXTENDED_REQUESTS, "lsetstat@openssh.com", clause=f"{OPENSSH} 4.7")
class Lsetstat(Struct):
    """Sets attributes; a symbolic link is not followed."""

    path: Text
    attrs: Attributes


@body(EXTENDED_REQUESTS, "limits@openssh.com", clause=f"{OPENSSH} 4.8")
class Limits(Struct):
    """Asks for the server's limits."""


@body(EXTENDED_REQUESTS, "expand-path@openssh.com", clause=f"{OPENSSH} 4.9")
class ExpandPath(Struct):
    """As SSH_FXP_REALPATH, and `~` and `~user` are understood."""

    path: Text


@body(EXTENDED_REQUESTS, "copy-data", clause=f"{OPENSSH} 4.10")
class CopyData(Struct):
    """Copies within the server."""

    read_handle: Bytes
    read_offset: U64 = doc("bytes from the beginning")
    length: U64 = doc("bytes; 0: to the end")
    write_handle: Bytes
    write_offset: U64 = doc("bytes from the beginning")


@body(EXTENDED_REQUESTS, "home-directory", clause=f"{OPENSSH} 4.11")
class HomeDirectory(Struct):
    """Asks for a user's home directory."""

    user_name: Text = doc("empty: the user who has logged in")


@body(EXTENDED_REQUESTS, "users-groups-by-id@openssh.com", clause=f"{OPENSSH} 4.12")
class UsersGroupsById(Struct):
    """Asks for the names of users and groups."""

    uids: Bytes = doc("a uint32 each")
    gids: Bytes = doc("a uint32 each")


@body(EXTENDED_REPLIES, "statvfs@openssh.com", clause=f"{OPENSSH} 4.4")
class StatvfsReply(Struct):
    """What statvfs(3) says of a file system."""

    bsize: U64 = doc("block size, bytes")
    frsize: U64 = doc("fragment size, bytes")
    blocks: U64 = doc("size, in fragments")
    bfree: U64 = doc("free blocks")
    bavail: U64 = doc("free blocks for whoever is not root")
    files: U64 = doc("inodes")
    ffree: U64 = doc("free inodes")
    favail: U64 = doc("free inodes for whoever is not root")
    fsid: U64
    flag: U64 = doc("1 read-only, 2 no setuid")
    namemax: U64 = doc("longest name, bytes")


EXTENDED_REPLIES["fstatvfs@openssh.com"] = StatvfsReply


@body(EXTENDED_REPLIES, "limits@openssh.com", clause=f"{OPENSSH} 4.8")
class LimitsReply(Struct):
    """The server's limits; 0 where there is none."""

    max_packet_length: U64 = doc("bytes")
    max_read_length: U64 = doc("bytes")
    max_write_length: U64 = doc("bytes")
    max_open_handles: U64


@body(EXTENDED_REPLIES, "users-groups-by-id@openssh.com", clause=f"{OPENSSH} 4.12")
class UsersGroupsByIdReply(Struct):
    """The names, in the order of the ids; empty where there is none."""

    user_names: Bytes = doc("a string each")
    group_names: Bytes = doc("a string each")


@message(200, "SSH_FXP_EXTENDED", clause=f"{DRAFT} 8", context=CONTEXT)
class ExtendedRequest(Message):
    """A request that the draft does not have."""

    id: U32
    request_name: Text
    body: Body = by_name("request_name", EXTENDED_REQUESTS)


@message(201, "SSH_FXP_EXTENDED_REPLY", clause=f"{DRAFT} 8", context=CONTEXT)
class ExtendedReply(Message):
    """Its answer, where a status does not do."""

    id: U32
    data: Rest = doc("as the request has it", default=b"")
