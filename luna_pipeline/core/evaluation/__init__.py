"""Reports and plots of scored candidates."""
