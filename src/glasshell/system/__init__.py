"""The operating system: accounts, files that are trusted, pseudo-terminals, child processes."""
