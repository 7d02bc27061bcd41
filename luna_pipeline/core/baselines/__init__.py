"""Feature models: scikit-learn classifiers of hand-made features, the baselines of the networks."""
