"""Cutouts as torch data sets, sampled for training, plain for evaluation."""
