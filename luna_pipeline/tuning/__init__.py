"""Search for better configurations with Ray Tune: spaces, studies, trials, their table and pictures."""
