#include "tile.h"

/* One matrix: rows and columns of out, and how far apart they are. */
typedef struct {
    float *out;
    const float *a, *b, *c; /* c may be NULL */
    int32_t m, n, k;
    int32_t out_row, out_column, c_row, c_column;
    int32_t a_row, a_inner, b_inner, b_column;
    float beta, alpha;
} product;

static void store(const product *p, const float *sums, int32_t i, int32_t j, int32_t rows, int32_t columns)
{
    for (int32_t r = 0; r < rows; ++r)
        for (int32_t c = 0; c < columns; ++c) {
            const float sum = sums[EW_TILE * r + c];
            float *const out = p->out + (i + r) * p->out_row + (j + c) * p->out_column;
            if (p->c == NULL)
                *out = sum;
            else if (p->beta == 0.0f)
                *out = p->alpha * sum;
            else
                *out = p->beta * p->c[(i + r) * p->c_row + (j + c) * p->c_column] + p->alpha * sum;
        }
}

static void multiply(const product *p)
{
    ew_tile t = {.sums = ew_tile_sums,
                 .n = {1, 1, 0},
                 .w_step = {0, 0, p->a_inner},
                 .x_step = {0, 0, p->b_inner},
                 .w_next = p->a_row,
                 .x_next = p->b_column};
    int32_t rows, columns;
    for (int32_t i = 0; i < p->m; i += rows) {
        rows = ew_tile_rows(p->m - i);
        for (int32_t j = 0; j < p->n; j += columns) {
            ew_tile_total total;
            columns = ew_tile_columns(p->n - j);
            ew_tile_total_begin(&total);
            for (int32_t k = 0; k < p->k; k += EW_PRODUCTS) {
                t.n[2] = ew_min(EW_PRODUCTS, p->k - k);
                ew_tile_total_add(&total, &t, rows, columns, p->a + i * p->a_row + k * p->a_inner,
                                  p->b + k * p->b_inner + j * p->b_column);
            }
            ew_tile_total_end(&total);
            store(p, total.sum, i, j, rows, columns);
        }
    }
}

/* The same product, transposed: rows become columns. */
static product transposed(const product *p)
{
    product q = *p;
    q.a = p->b, q.b = p->a, q.m = p->n, q.n = p->m;
    q.out_row = p->out_column, q.out_column = p->out_row;
    q.c_row = p->c_column, q.c_column = p->c_row;
    q.a_row = p->b_column, q.a_inner = p->b_inner, q.b_inner = p->a_inner, q.b_column = p->a_row;
    return q;
}

void ew_matmul_add(const ew_tensor *out, const ew_tensor *c, const ew_tensor *a, const ew_tensor *b,
                   float beta, float alpha)
{
    const int32_t d = out->dims - 2, batches = d > 0 ? out->size[0] : 1;
    product p = {.m = out->size[d],
                 .n = out->size[d + 1],
                 .k = a->size[d + 1],
                 .out_row = out->stride[d],
                 .out_column = out->stride[d + 1],
                 .a_row = a->stride[d],
                 .a_inner = a->stride[d + 1],
                 .b_inner = b->stride[d],
                 .b_column = b->stride[d + 1],
                 .beta = beta,
                 .alpha = alpha};
    if (c != NULL)
        p.c_row = c->stride[d], p.c_column = c->stride[d + 1];
    for (int32_t i = 0; i < batches; ++i) {
        p.out = ew_floats(out, d > 0 ? i * out->stride[0] : 0);
        p.a = ew_floats(a, d > 0 ? i * a->stride[0] : 0);
        p.b = ew_floats(b, d > 0 ? i * b->stride[0] : 0);
        if (c != NULL)
            p.c = ew_floats(c, d > 0 ? i * c->stride[0] : 0);
        if (p.b_column != 1 && p.a_row == 1) {
            const product turned = transposed(&p);
            multiply(&turned);
        } else {
            multiply(&p);
        }
    }
}

void ew_matmul(const ew_tensor *out, const ew_tensor *a, const ew_tensor *b)
{
    ew_matmul_add(out, NULL, a, b, 0.0f, 1.0f);
}
