"""Image classifiers of other people: pinned, fetched, given images, and scanned as a user would."""
