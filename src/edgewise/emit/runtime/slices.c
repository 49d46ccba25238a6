#include "slices.h"

#include <string.h>

typedef struct {
    uint32_t slot;
    ew_version version;
    uint32_t item;
    int write;
} transfer;

static int move(const transfer *t, uint8_t *ram, int32_t element, uint32_t bytes)
{
    const uint32_t first = (uint32_t)element * t->item;
    return t->write ? ew_slot_write(t->slot, first, ram, bytes) : ew_slot_read(t->slot, t->version, first, ram, bytes);
}

/* Elements that lie in one run on both sides; their dims are struck from `left`. */
static int32_t run_of(const ew_tensor *tile, const int32_t *stride, uint8_t *left)
{
    int32_t run = 1;
    for (int32_t grown = 1; grown;) {
        grown = 0;
        for (int32_t d = 0; d < tile->dims; d++) {
            if (left[d] && (tile->size[d] == 1 || (stride[d] == run && tile->stride[d] == run))) {
                run *= tile->size[d];
                left[d] = 0;
                grown = 1;
            }
        }
    }
    return run;
}

static int pass(const transfer *t, const ew_tensor *tile, const int32_t *stride, int32_t first)
{
    uint8_t left[EW_DIMS];
    int32_t at[EW_DIMS] = {0};
    for (int32_t d = 0; d < tile->dims; d++) {
        if (tile->size[d] == 0) {
            return EW_OK;
        }
        left[d] = 1;
    }
    const uint32_t bytes = (uint32_t)run_of(tile, stride, left) * t->item;
    for (;;) {
        int32_t there = first, here = 0, d = tile->dims - 1;
        for (int32_t k = 0; k < tile->dims; k++) {
            there += at[k] * stride[k];
            here += at[k] * tile->stride[k];
        }
        const int error = move(t, (uint8_t *)tile->data + (uint32_t)here * t->item, there, bytes);
        if (error) {
            return error;
        }
        for (; d >= 0; d--) {
            if (left[d] && ++at[d] < tile->size[d]) {
                break;
            }
            at[d] = 0;
        }
        if (d < 0) {
            return EW_OK;
        }
    }
}

int ew_slice_read(uint32_t slot, ew_version version, uint32_t item, const ew_tensor *tile, const int32_t *stride,
                  int32_t first)
{
    const transfer t = {slot, version, item, 0};
    return pass(&t, tile, stride, first);
}

int ew_slice_write(uint32_t slot, uint32_t item, const ew_tensor *tile, const int32_t *stride, int32_t first)
{
    const transfer t = {slot, EW_NEW, item, 1};
    return pass(&t, tile, stride, first);
}

int ew_rows_read(const ew_tensor *out, uint32_t slot, ew_version version, const ew_tensor *index)
{
    const uint32_t bytes = (uint32_t)out->size[out->dims - 1] * (uint32_t)sizeof(float);
    int32_t at[EW_DIMS] = {0};
    uint8_t *row = out->data;
    for (;;) {
        int32_t here = 0, d = index->dims - 1;
        for (int32_t k = 0; k < index->dims; k++) {
            here += at[k] * index->stride[k];
        }
        const uint32_t number = (uint32_t)((const int64_t *)index->data)[here];
        const int error = ew_slot_read(slot, version, number * bytes, row, bytes);
        if (error) {
            return error;
        }
        row += bytes;
        for (; d >= 0; d--) {
            if (++at[d] < index->size[d]) {
                break;
            }
            at[d] = 0;
        }
        if (d < 0) {
            return EW_OK;
        }
    }
}

/* Position `number` of a tensor, in row-major order. */
static int32_t place_of(const ew_tensor *x, int32_t number, int32_t dims)
{
    int32_t place = 0;
    for (int32_t d = dims - 1; d >= 0; d--) {
        place += number % x->size[d] * x->stride[d];
        number /= x->size[d];
    }
    return place;
}

static int64_t index_at(const ew_tensor *index, int32_t number)
{
    return ((const int64_t *)index->data)[place_of(index, number, index->dims)];
}

static int row_update(const ew_rows *rows, int64_t number, const ew_tensor *sum, const ew_sgd_settings *s)
{
    const int32_t n = sum->size[0], begin = (int32_t)number * rows->width + rows->first;
    float *const held = rows->table ? rows->table + begin : rows->room + n;
    const ew_tensor row = {held, 1, {n}, {1}};
    const uint32_t at = (uint32_t)begin * (uint32_t)sizeof(float), bytes = (uint32_t)n * (uint32_t)sizeof(float);
    int error = rows->table ? EW_OK : ew_slot_read(rows->slot, EW_NEW, at, held, bytes);
    if (error) {
        return error;
    }
    ew_sgd(&row, sum, NULL, s);
    return rows->table ? EW_OK : ew_slot_write(rows->slot, at, held, bytes);
}

int ew_rows_update(const ew_rows *rows, const ew_tensor *dy, const ew_tensor *index, const ew_sgd_settings *s)
{
    const int32_t n = dy->size[dy->dims - 1], step = dy->stride[dy->dims - 1];
    const ew_tensor sum = {rows->room, 1, {n}, {1}};
    int32_t count = 1;
    for (int32_t d = 0; d < index->dims; d++) {
        count *= index->size[d];
    }
    for (int32_t p = 0; p < count; p++) {
        const int64_t number = index_at(index, p);
        int32_t seen = 0;
        while (seen < p && index_at(index, seen) != number) {
            seen++;
        }
        if (seen < p || number == rows->padding_index) {
            continue;
        }
        memset(rows->room, 0, (uint32_t)n * sizeof(float));
        for (int32_t q = p; q < count; q++) {
            const float *const from = (const float *)dy->data + place_of(dy, q, index->dims);
            for (int32_t i = 0; i < n && index_at(index, q) == number; i++) {
                rows->room[i] += from[i * step];
            }
        }
        const int error = row_update(rows, number, &sum, s);
        if (error) {
            return error;
        }
    }
    return EW_OK;
}
