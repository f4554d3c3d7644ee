"""The model catalog, the sources of weights, and the content-addressed cache."""
