"""The primitives, behind one table of algorithms; nothing here knows a message or a connection."""
