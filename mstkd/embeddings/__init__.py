"""Images to vectors, and the teachers' vectors side by side."""
