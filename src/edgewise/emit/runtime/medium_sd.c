/* An SD card over SPI, by the SD Association's Physical Layer Simplified Specification, section 7.
 *
 * The store is at the start of the card, without partitions. A card reads and writes whole sectors: parts of one go
 * through a buffer. A write returns when the card is no longer busy with it, so there is nothing to flush.
 */
#include <string.h>

#include "medium.h"
#include "spi.h"

enum {
    SECTOR = 512,
    GO_IDLE = 0,
    SEND_IF_COND = 8,
    SET_BLOCKLEN = 16,
    READ_BLOCK = 17,
    WRITE_BLOCK = 24,
    APP_SEND_OP_COND = 41,
    APP = 55,
    READ_OCR = 58,
    IS_IDLE = 0x01,          /* of a response */
    CHECK_PATTERN = 0x1aa,   /* 2.7 to 3.6 V, and ten bits that come back */
    HOST_HAS_HIGH_CAPACITY = 1 << 30,
    CARD_HAS_HIGH_CAPACITY = 0x40,
    START_OF_DATA = 0xfe,
    ACCEPTED = 0x05,         /* five bits that a card answers data with */
    LONG = 1000000           /* exchanges to wait for, more than the 0.5 s that a card may take */
};
#define NOTHING UINT32_MAX

static int by_sector;       /* addresses are sectors, not bytes */
static uint32_t held = NOTHING; /* the sector that `buffer` is a copy of */
static uint8_t buffer[SECTOR];

static uint8_t next_byte(void)
{
    return ew_spi_exchange(0xff);
}

static int wait_for(uint8_t wanted)
{
    for (int32_t i = 0; i < LONG; i++)
        if (next_byte() == wanted)
            return 0;
    return 1;
}

/* The first byte of the response, of which the highest bit is clear; 0xff if there is none. */
static uint8_t command(uint8_t number, uint32_t argument)
{
    /* The checksum counts for the first two only, which have always the same arguments. */
    const uint8_t check = number == GO_IDLE ? 0x95 : number == SEND_IF_COND ? 0x87 : 0x01;
    uint8_t response = 0xff;

    next_byte();
    ew_spi_exchange((uint8_t)(0x40 | number));
    for (int shift = 24; shift >= 0; shift -= 8)
        ew_spi_exchange((uint8_t)(argument >> shift));
    ew_spi_exchange(check);
    for (int i = 0; i < 16 && response & 0x80; i++)
        response = next_byte();
    return response;
}

static uint32_t word(void)
{
    uint32_t found = 0;

    for (int i = 0; i < 4; i++)
        found = found << 8 | next_byte();
    return found;
}

static int start_card(void)
{
    uint8_t response = IS_IDLE;

    for (int i = 0; i < 100 && command(GO_IDLE, 0) != IS_IDLE; i++)
        continue;
    const int is_new = command(SEND_IF_COND, CHECK_PATTERN) == IS_IDLE;
    if (is_new && (word() & 0xfff) != CHECK_PATTERN)
        return 1;
    for (int32_t i = 0; i < LONG / 16 && response; i++) {
        command(APP, 0);
        response = command(APP_SEND_OP_COND, is_new ? HOST_HAS_HIGH_CAPACITY : 0);
    }
    if (response || (command(READ_OCR, 0) & ~IS_IDLE)) /* some cards are idle here, QEMU's among them */
        return 1;
    by_sector = (word() >> 24 & CARD_HAS_HIGH_CAPACITY) != 0;
    return !by_sector && command(SET_BLOCKLEN, SECTOR);
}

static uint32_t address(uint32_t sector)
{
    return by_sector ? sector : sector * SECTOR;
}

static int read_sector(uint32_t sector, uint8_t *to)
{
    ew_spi_select(1);
    const int failed = command(READ_BLOCK, address(sector)) || wait_for(START_OF_DATA);
    for (int i = 0; i < SECTOR && !failed; i++)
        to[i] = next_byte();
    next_byte(); /* checksum */
    next_byte();
    ew_spi_select(0);
    next_byte(); /* a card lets go of the bus with the next clock */
    return failed;
}

static int write_sector(uint32_t sector, const uint8_t *from)
{
    ew_spi_select(1);
    int failed = command(WRITE_BLOCK, address(sector));
    if (!failed) {
        next_byte();
        ew_spi_exchange(START_OF_DATA);
        for (int i = 0; i < SECTOR; i++)
            ew_spi_exchange(from[i]);
        next_byte(); /* checksum, which is off */
        next_byte();
        failed = (next_byte() & 0x1f) != ACCEPTED || wait_for(0xff); /* zeros while it is busy */
    }
    ew_spi_select(0);
    next_byte();
    return failed;
}

static int hold(uint32_t sector)
{
    if (held == sector)
        return 0;
    held = NOTHING;
    if (read_sector(sector, buffer))
        return 1;
    held = sector;
    return 0;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

int ew_medium_open(uint32_t bytes)
{
    (void)bytes; /* a card that is too small refuses the first access beyond its end */
    held = NOTHING;
    ew_spi_start(0);
    ew_spi_select(0);
    for (int i = 0; i < 10; i++)
        next_byte(); /* 74 clocks at least until it listens */
    ew_spi_select(1);
    const int failed = start_card();
    ew_spi_select(0);
    next_byte();
    ew_spi_start(1);
    return failed;
}

int ew_medium_read(uint32_t offset, void *to, uint32_t bytes)
{
    uint8_t *at = to;

    while (bytes > 0) {
        const uint32_t sector = offset / SECTOR, within = offset % SECTOR, part = smaller(bytes, SECTOR - within);
        if (part == SECTOR && sector != held) {
            if (read_sector(sector, at))
                return 1;
        } else {
            if (hold(sector))
                return 1;
            memcpy(at, buffer + within, part);
        }
        at += part;
        offset += part;
        bytes -= part;
    }
    return 0;
}

int ew_medium_write(uint32_t offset, const void *from, uint32_t bytes)
{
    const uint8_t *at = from;

    while (bytes > 0) {
        const uint32_t sector = offset / SECTOR, within = offset % SECTOR, part = smaller(bytes, SECTOR - within);
        const uint8_t *whole = at;
        if (part == SECTOR) {
            held = held == sector ? NOTHING : held;
        } else {
            if (hold(sector))
                return 1;
            memcpy(buffer + within, at, part);
            whole = buffer;
        }
        if (write_sector(sector, whole)) {
            held = NOTHING;
            return 1;
        }
        at += part;
        offset += part;
        bytes -= part;
    }
    return 0;
}

int ew_medium_flush(void)
{
    return 0;
}
