"""What each recipe's paper claims and how it is measured, one file a recipe; the results stand beside as JSON."""
