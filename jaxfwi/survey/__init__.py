"""Sources and receivers: shots as a PyTree, wavelets, padding to equal sizes, source encoding."""
