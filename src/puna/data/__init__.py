"""Raw dumps become clean documents here (section 2.1): sources, quality, repeats, held-out text, and their graph."""
