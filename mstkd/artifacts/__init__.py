"""What lies on the disk, and what made it."""
