"""Inversions: stages, the loop over updates, and its state on disk."""
