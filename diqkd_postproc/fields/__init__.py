"""Arithmetic over binary fields and prime fields, on which hashing and extraction are built.

`binary_field` states the fields on Python integers, as a reference for the compiled kernels; `carryless` has
the processor's instructions for them, `number_theoretic_transform` the convolution of Toeplitz hashing.

>>> from diqkd_postproc.fields.binary_field import BinaryField
>>> field = BinaryField(128)
>>> inverse = field.power(0b1011, 2**128 - 2)
>>> field.multiply(0b1011, inverse)
1
"""
