"""A checked Plan as C99 for a microcontroller, and emulated boards to run it on."""
