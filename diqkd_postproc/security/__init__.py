"""How long the key may be: one module a proof."""
