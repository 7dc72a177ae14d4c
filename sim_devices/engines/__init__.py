"""Two ways to execute a kernel: as host Python (`host`), or as the compiler's own binary (`kasli`)."""
