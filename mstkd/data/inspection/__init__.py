"""What lies at a path, told before any work."""
