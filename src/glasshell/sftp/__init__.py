"""SFTP: the packets of draft-ietf-secsh-filexfer-02 and of OpenSSH's extensions."""
