"""The commands, one thin file each; what is heavy is imported when it is used."""
