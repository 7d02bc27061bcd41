"""Messages of errors, read from the source code of the package."""
