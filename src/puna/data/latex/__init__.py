"""LaTeX papers as arXiv stores them: archives of archives, many encodings, comments, macros, bibliographies."""
