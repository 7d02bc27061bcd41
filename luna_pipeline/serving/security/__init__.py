"""Protection of the service: tokens, checks of each request, metrics without anything of a patient."""
