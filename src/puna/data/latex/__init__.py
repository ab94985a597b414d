"""LaTeX papers as arXiv stores them: archives in archives, many encodings, comments, macros, bibliographies."""
