"""Training and testing a network: the LightningModule, its callbacks, and the fit that puts them together."""
