"""What an installation holds: parts by name, versions, runs, and its state. For the command line."""
