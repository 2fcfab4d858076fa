"""Images to proposal stores: generators of object proposals, and what runs them over a dataset."""
