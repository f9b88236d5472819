"""Sources of records that are no live connection: packet captures and system call traces."""
