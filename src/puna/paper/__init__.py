"""The paper's ledger: what each section, table and figure claims, what does it here, and the figure that shows it.

ledger.toml is the one place where a claim stands, in our words, with its modules, tests, command and status; ledger.py
reads it. A figure is never typed: ledger.toml says which number of which result stands where, and results/ holds the
results, each made by benchmarks/record.py, which runs the command and writes down commit, machine and date. results.py
reads them and tells their age, and which modules have changed since; screen.py is what `puna paper` shows.
docs/generate.py makes docs/paper.md and docs/not-shown.md of the same data. Nothing here loads another station.
"""
