"""Training a network and predicting with it: `fit` puts the parts together, each of which has a module here."""
