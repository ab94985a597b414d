"""Books: the frame that Project Gutenberg put around its texts, in each of its forms, and what it says of the book."""
