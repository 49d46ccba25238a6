/* Private to the kernels: updates by a gradient of which no more than a piece, on the stack, is ever there. */
#ifndef EW_PIECES_H
#define EW_PIECES_H

#include "ew.h"

#define EW_PIECE 32

/* Makes `n` elements of a gradient, in the order of the parameter's storage, from element `first` on. */
typedef struct {
    void (*make)(float *piece, int32_t n, uint32_t first, const float *w, const void *source);
    const void *source;
} ew_pieces;

/* Of dense tensors of one dim. */
void ew_sgd_pieces(const ew_tensor *parameter, const ew_pieces *gradient, const ew_tensor *momentum /* or NULL */,
                   const ew_sgd_settings *s);
void ew_adamw_pieces(const ew_tensor *parameter, const ew_pieces *gradient, const ew_tensor *first,
                     const ew_tensor *second, const ew_adamw_settings *s, uint64_t step);

#endif
