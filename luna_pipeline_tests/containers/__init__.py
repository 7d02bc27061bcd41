"""A private Docker engine, and stand-ins for the upstream images where no registry can be reached."""
