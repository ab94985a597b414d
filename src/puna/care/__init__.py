"""The care of runs: which there are and how they stand (`listing`), one of them in full (`status`), and what of it may
go (`clean`).

Everything here reads what a run wrote down of itself: records, metrics, the state of its bars. Nothing is kept beside
the run folders, so a run that was moved or copied, or is made by another machine, is told of as well. What is damaged,
half-written or of a newer version is told, never stumbled over.
"""
