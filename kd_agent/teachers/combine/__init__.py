"""Rules by which several teachers of one task become one.

Each plug-in has `combine(outputs, weights, head) -> params [B, P]`: the answers of `K` teachers to the same
states and their weights `[K]`, all positive and 1 in sum, become one row. Rows are distributions before
anything else, so logits, Q-values and preferences of any scale and offset may be mixed.
"""
