"""Reading CT series, their geometry, their catalogue, and a phantom that imitates them."""
