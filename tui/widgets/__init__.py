"""One module for each widget."""
