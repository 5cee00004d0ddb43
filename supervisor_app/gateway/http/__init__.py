"""HTTP on the wire: heads and framing, read strictly and written anew; what is too much."""
