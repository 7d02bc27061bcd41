"""Reading of CT series, their geometry and their catalogue."""
