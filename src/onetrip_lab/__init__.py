"""The WAN in a box: a small multi-region world on one machine, and the demo that runs in it.

The lab is a stranger to the product: it starts `onetrip` as its users do, and onetrip never
imports it.
"""
