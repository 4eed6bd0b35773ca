"""Many shots: what was recorded and how it is compared, and what computes it, on cores, devices and hosts."""
