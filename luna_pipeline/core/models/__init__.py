"""Networks and the models that train them."""
