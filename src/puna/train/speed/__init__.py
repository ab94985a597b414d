"""How fast a training step is here: beside the matmuls that it cannot do without, and beside other projects' loops.

Paper, section 2.4. A speed says little by itself: what a processor gives depends on its neighbours too. So a step, the
bare matmuls of its model and the steps of peers run in turn, and what counts is their ratio, round by round.
`puna bench train` and benchmarks/train.py are made of this.
"""
