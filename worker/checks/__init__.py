"""What `penstock verify` looks at: each check names what is wrong, and mends what can be mended."""
