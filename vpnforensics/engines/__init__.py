"""Case to scores: one module a method; engines never import each other."""
