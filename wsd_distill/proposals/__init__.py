"""Object proposals: generators, the conversion of other programs' files, and proposal stores."""
