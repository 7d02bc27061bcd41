"""From an unseen CT to nodules: segmentation, grouping, classification, report."""
