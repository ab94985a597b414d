"""Training: tokens in, checkpoints and metrics out (section 2.3). `loop.train` is the way in; it imports torch."""
