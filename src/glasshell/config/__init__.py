"""ssh_config and sshd_config: files become a frozen `Policy` before anything connects."""
