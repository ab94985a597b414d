"""LaTeX papers as arXiv stores them: archives of archives, files in many encodings, comments, macros, bibliographies."""
