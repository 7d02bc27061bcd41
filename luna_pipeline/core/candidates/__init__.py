"""LUNA16 tables as one typed candidate table, with folds and malignancy labels."""
