"""The synthetic chest CT data set."""
