/* The bus that medium_sd.c needs: all that there is to port to another board. */
#ifndef EW_SPI_H
#define EW_SPI_H

#include <stdint.h>

/* Mode 0, eight bits, most significant first. Slow is at most 400 kHz, for a card that starts; then as fast as both
 * can, up to 25 MHz. */
void ew_spi_start(int fast);
void ew_spi_select(int selected); /* chip select of the card: low if selected */
uint8_t ew_spi_exchange(uint8_t out); /* one byte out, one byte in */

#endif
