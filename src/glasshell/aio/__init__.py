"""The asyncio shells: thin glue between sockets, tasks and the protocol core."""
