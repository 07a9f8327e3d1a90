"""How good a registration is: labels, overlap, folding, similarity."""
