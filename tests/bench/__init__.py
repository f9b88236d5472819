"""`make bench`: what costs how much, as ratios side by side in one run; these are not tests."""
