"""Results as figures and token views. Nothing here computes."""
