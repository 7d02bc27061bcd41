"""The mask of the lungs in a chest CT."""
