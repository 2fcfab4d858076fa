"""Object proposals: generators, file formats and their conversion."""
