/* Philox4x32-10 (Salmon et al., SC 2011): random numbers as a function of a key and a counter. */
#include "philox.h"

#include "numbers.h"

void ew_philox(uint32_t words[4], uint32_t counter, const ew_key *key)
{
    uint32_t low = (uint32_t)key->seed, high = (uint32_t)(key->seed >> 32);
    words[0] = counter;
    words[1] = (uint32_t)key->step;
    words[2] = (uint32_t)(key->step >> 32);
    words[3] = key->stream;
    for (int round = 0; round < 10; ++round) {
        const uint64_t a = (uint64_t)0xD2511F53u * words[0], b = (uint64_t)0xCD9E8D57u * words[2];
        words[0] = (uint32_t)(b >> 32) ^ words[1] ^ low;
        words[1] = (uint32_t)b;
        words[2] = (uint32_t)(a >> 32) ^ words[3] ^ high;
        words[3] = (uint32_t)a;
        low += 0x9E3779B9u;
        high += 0xBB67AE85u;
    }
}

/* The numbers of a stream one after another. */
typedef struct {
    uint32_t words[4];
    uint32_t next;
    const ew_key *key;
} stream;

/* The words that number i belongs to. */
static const uint32_t *words_of(stream *s, uint32_t i)
{
    if (i % 4 == 0)
        ew_philox(s->words, i / 4, s->key);
    return s->words;
}

static void put(const ew_tensor *out, ew_type type, int32_t at, int one)
{
    if (type == EW_F32)
        *ew_floats(out, at) = (float)one;
    else if (type == EW_I64)
        ((int64_t *)out->data)[at] = one;
    else if (type == EW_I32)
        ((int32_t *)out->data)[at] = one;
    else
        ((uint8_t *)out->data)[at] = (uint8_t)one;
}

void ew_bernoulli(const ew_tensor *out, ew_type type, uint64_t threshold, const ew_key *key)
{
    const ew_tensor *const operands[] = {out};
    stream s = {{0, 0, 0, 0}, 0, key};
    ew_walk w;
    for (ew_walk_begin_in_order(&w, 1, operands); w.n > 0; ew_walk_step(&w), ++s.next)
        put(out, type, ew_walk_at(&w, 0), words_of(&s, s.next)[s.next % 4] < threshold);
}

void ew_uniform(const ew_tensor *out, const ew_key *key)
{
    const ew_tensor *const operands[] = {out};
    stream s = {{0, 0, 0, 0}, 0, key};
    ew_walk w;
    for (ew_walk_begin_in_order(&w, 1, operands); w.n > 0; ew_walk_step(&w), ++s.next)
        *ew_floats(out, ew_walk_at(&w, 0)) =
            (float)(words_of(&s, s.next)[s.next % 4] >> 8) * 5.9604644775390625e-8f;
}

/* The root of -2 log(u), u = (word + 1/2) / 2^32. Near 1 it is 1 - u that is known exactly. */
static float radius_of(uint32_t word)
{
    const float unit = 2.3283064365386963e-10f; /* 2^-32 */
    if (word < 0xB504F334u)
        return ew_sqrtf(-2.0f * ew_logf(((float)word + 0.5f) * unit));
    return ew_sqrtf(-2.0f * ew_log_near_one(-((float)(0xFFFFFFFFu - word) + 0.5f) * unit));
}

/* Two numbers of two words: Box and Muller, Annals of Mathematical Statistics 29, 1958. */
void ew_normal_pair(const uint32_t words[2], float normal[2])
{
    const float radius = radius_of(words[0]);
    const int32_t quarters = (int32_t)((words[1] + 0x20000000u) >> 30);
    const int32_t rest = (int32_t)(words[1] + 0x20000000u - ((uint32_t)quarters << 30)) - 0x20000000;
    ew_turn(quarters, ((float)rest + 0.5f) * 1.46291807926715968e-9f, &normal[1],
            &normal[0]); /* 2 pi / 2^32 */
    normal[0] *= radius;
    normal[1] *= radius;
}

void ew_normal(const ew_tensor *out, const ew_key *key)
{
    const ew_tensor *const operands[] = {out};
    stream s = {{0, 0, 0, 0}, 0, key};
    float normal[2] = {0.0f, 0.0f};
    ew_walk w;
    for (ew_walk_begin_in_order(&w, 1, operands); w.n > 0; ew_walk_step(&w), ++s.next) {
        if (s.next % 2 == 0)
            ew_normal_pair(words_of(&s, s.next) + s.next % 4, normal);
        *ew_floats(out, ew_walk_at(&w, 0)) = normal[s.next % 2];
    }
}
