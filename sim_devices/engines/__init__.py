"""Two engines that execute kernels: as host Python (`host`), or as the compiler's own binary (`kasli`)."""
