/* Functions of one number from + - * / and moves of bits: the same bits on every target.
 *
 * The polynomials are minimax fits (iteratively reweighted least squares) over the interval that is
 * written at each, their coefficients rounded to float32; the error of each, rounded, is far below half a
 * unit in the last place. */
#include "numbers.h"

#define NOT_A_NUMBER ew_float(0x7fc00000u)
#define INFINITE ew_float(0x7f800000u)

static const float LN2_HIGH = 6.9314575195e-01f; /* 15 bits: an exponent times it is exact */
static const float LN2_LOW = 1.4286067653e-06f;

/* y 2^k for y near 1 and |k| < 252, rounded once. */
static float scaled(float y, int32_t k)
{
    const int32_t half = k / 2, other = k - half;
    return y * ew_float((uint32_t)(half + 127) << 23) * ew_float((uint32_t)(other + 127) << 23);
}

static int32_t nearest(float x)
{
    return (int32_t)(x < 0.0f ? x - 0.5f : x + 0.5f);
}

/* e^r - 1 = r + r^2 P(r), |r| <= log(2) / 2. */
static float above_one(float r)
{
    const float p = 4.166618735e-02f + r * (8.369598538e-03f + r * 1.395171741e-03f);
    return r + r * r * (0.5f + r * (1.666651219e-01f + r * p));
}

float ew_expf(float x)
{
    if (!(x <= 88.72284f))
        return x == x ? INFINITE : x;
    if (x < -104.0f)
        return 0.0f;
    const int32_t k = nearest(x * 1.44269504f);
    return scaled(1.0f + above_one((x - (float)k * LN2_HIGH) - (float)k * LN2_LOW), k);
}

float ew_expm1f(float x)
{
    return ew_absf(x) <= 0.34f ? above_one(x) : ew_expf(x) - 1.0f;
}

/* f - f^2 / 2 + f^3 Q(f), and `more` that is added before f^2 / 2 and f. */
static float log_of(float f, float more)
{
    float q = -1.178980768e-01f + f * 6.915368140e-02f;
    q = -1.238434836e-01f + f * (1.187297627e-01f + f * q);
    q = 2.000222653e-01f + f * (-1.666925102e-01f + f * (1.421865821e-01f + f * q));
    q = 3.333331048e-01f + f * (-2.499998659e-01f + f * q);
    const float square = f * f;
    return f - (0.5f * square - (f * square * q + more));
}

float ew_log_near_one(float f)
{
    return log_of(f, 0.0f);
}

/* The exponent e and m in [sqrt(1/2), sqrt(2)) of x = m 2^e, x positive and finite. */
static float split(float x, int32_t *e)
{
    int32_t below = 0;
    if (x < 1.17549435e-38f) {
        x *= 8388608.0f;
        below = 23;
    }
    const uint32_t bits = ew_bits(x) - 0x3f3504f3u; /* sqrt(1/2) */
    const int32_t up = (int32_t)(bits >> 23) - (bits >> 31 != 0 ? 512 : 0);
    *e = up - below;
    return ew_float((bits & 0x7fffffu) + 0x3f3504f3u);
}

float ew_logf(float x)
{
    int32_t e;
    if (!(x > 0.0f))
        return x == 0.0f ? -INFINITE : NOT_A_NUMBER;
    if (x == INFINITE)
        return x;
    const float m = split(x, &e);
    return (float)e * LN2_HIGH + log_of(m - 1.0f, (float)e * LN2_LOW);
}

float ew_log1pf(float x)
{
    if (x > -0.29289323f && x < 0.41421354f)
        return log_of(x, 0.0f);
    const float u = 1.0f + x;
    if (!(u > 0.0f) || u == INFINITE)
        return ew_logf(u);
    const float lost = u > x ? (x - (u - 1.0f)) : (1.0f - (u - x));
    return ew_logf(u) + lost / u;
}

/* Bit by bit; the root of 50 bits has 25, of which the last one rounds: no float lies half way. */
float ew_sqrtf_by_bits(float x)
{
    if (!(x > 0.0f) || x == INFINITE)
        return x < 0.0f ? NOT_A_NUMBER : x;
    int32_t below = 0;
    if (x < 1.17549435e-38f) {
        x *= 16777216.0f;
        below = 24;
    }
    uint64_t square = (ew_bits(x) & 0x7fffffu) | 0x800000u;
    int32_t e = (int32_t)(ew_bits(x) >> 23) - 150 - below;
    if ((e & 1) == 0) {
        square *= 2;
        e -= 1;
    }
    square <<= 25;
    uint32_t root = 0;
    for (uint32_t bit = 1u << 24; bit != 0; bit >>= 1)
        if ((uint64_t)(root | bit) * (root | bit) <= square)
            root |= bit;
    e = (e - 25) / 2 + 1;
    return ew_float(((uint32_t)(e + 150) << 23) + (((root + 1) >> 1) - 0x800000u));
}

float ew_sqrtf(float x)
{
    float root;
#if defined(__aarch64__)
    __asm__("fsqrt %s0, %s1" : "=w"(root) : "w"(x));
#elif defined(__ARM_FP) && (__ARM_FP & 4)
    __asm__("vsqrt.f32 %0, %1" : "=t"(root) : "t"(x));
#elif defined(__SSE2__)
    __asm__("sqrtss %1, %0" : "=x"(root) : "x"(x));
#else
    root = ew_sqrtf_by_bits(x);
#endif
    return root;
}

/* x + x E(x^2) up to 0.9, and 1 - e^-p(x) up to 4, from where on it is 1. */
float ew_erff(float x)
{
    const float a = ew_absf(x), z = a * a;
    if (!(a < 4.0f))
        return a == a ? ew_with_sign(1.0f, x) : x;
    if (a < 0.9f) {
        float e = 5.204435904e-03f + z * (-8.181927260e-04f + z * 8.538839029e-05f);
        e = 1.128371954e-01f + z * (-2.686075307e-02f + z * e);
        return x + x * (1.283791661e-01f + z * (-3.761263490e-01f + z * e));
    }
    float p = -2.509149723e-02f + a * (4.160527140e-03f + a * (-4.323030007e-04f + a * 2.090955604e-05f));
    p = -1.705520408e-04f + a * (1.129495144e+00f + a * (6.333866715e-01f + a * (1.082366183e-01f + a * p)));
    return ew_with_sign(1.0f - ew_expf(-p), x);
}

/* x + x^3 T(x^2) up to 0.625, and 1 - 2 / (e^2x + 1) beyond. */
float ew_tanhf(float x)
{
    const float a = ew_absf(x), z = a * a;
    if (a < 0.625f) {
        float t = 2.170296758e-02f + z * (-8.182673715e-03f + z * 2.147536958e-03f);
        t = -3.333333135e-01f + z * (1.333321035e-01f + z * (-5.394720286e-02f + z * t));
        return ew_with_sign(a + a * z * t, x);
    }
    if (!(a < 10.0f))
        return a == a ? ew_with_sign(1.0f, x) : x;
    return ew_with_sign(1.0f - 2.0f / (ew_expf(2.0f * a) + 1.0f), x);
}

/* r + r^3 S(r^2), and 1 - r^2 / 2 + r^4 C(r^2). */
void ew_turn(int32_t quarters, float r, float *sine, float *cosine)
{
    const float z = r * r;
    float s = -1.983925758e-04f + z * 2.717568123e-06f, c = -1.388730598e-03f + z * 2.443123958e-05f;
    s = r + r * z * (-1.666666716e-01f + z * (8.333329111e-03f + z * s));
    c = 1.0f - (0.5f * z - z * z * (4.166664556e-02f + z * c));
    const float u = (quarters & 1) != 0 ? c : s, v = (quarters & 1) != 0 ? -s : c;
    *sine = (quarters & 2) != 0 ? -u : u;
    *cosine = (quarters & 2) != 0 ? -v : v;
}

/* Less the nearest multiple of a quarter turn, in four parts, of which three are exact up to MOST_RADIANS
 * (Cody and Waite). */
static const float MOST_RADIANS = 6000.0f;

static void sine_and_cosine(float x, float *sine, float *cosine)
{
    const int32_t k = nearest(x * 0.636619772f);
    const float n = (float)k;
    const float r = (((x - n * 1.5703125000e+00f) - n * 4.8375129700e-04f) - n * 7.5495336205e-08f)
                    - n * 2.5633440683e-12f;
    ew_turn(k, r, sine, cosine);
}

float ew_sinf(float x)
{
    float sine, cosine;
    if (!(ew_absf(x) <= MOST_RADIANS))
        return NOT_A_NUMBER;
    sine_and_cosine(x, &sine, &cosine);
    return x == 0.0f ? x : sine;
}

float ew_cosf(float x)
{
    float sine, cosine;
    if (!(ew_absf(x) <= MOST_RADIANS))
        return NOT_A_NUMBER;
    sine_and_cosine(x, &sine, &cosine);
    return cosine;
}

static const float TWO_LOG2_E = 2.8853900433e+00f, TWO_LOG2_E_LOW = 3.8519260670e-08f; /* 2 / ln 2 */
/* Numbers near which logarithms are taken, and theirs to base 2: 12 bits, and the rest. */
static const struct {
    float number, log2, log2_low;
} NEAR[] = {{0.78125f, -3.5620117188e-01f, 5.7361648942e-05f},
            {1.0f, 0.0f, 0.0f},
            {1.28125f, 3.5766601562e-01f, -1.1401100346e-04f}};

/* a b as the sum of two floats (Dekker, Numerische Mathematik 18, 1971). */
static float product(float a, float b, float *rest)
{
    const float p = a * b, at = a * 4097.0f, bt = b * 4097.0f;
    const float ah = at - (at - a), bh = bt - (bt - b), al = a - ah, bl = b - bh;
    *rest = ((ah * bh - p) + ah * bl + al * bh) + al * bl;
    return p;
}

/* log2(x) as the sum of two floats. With s = (m - c) / (m + c), log2(m) = log2(c) + 2 s / ln 2 + s^3 R(s^2),
 * where c is near m, so that what comes after the first two terms is small. */
static float log2_of(float x, float *rest)
{
    int32_t e;
    float tail, lost;
    const float m = split(x, &e);
    const int32_t i = m > 1.13f ? 2 : m > 0.885f ? 1 : 0;
    const float c = NEAR[i].number, whole = (float)e + NEAR[i].log2; /* exact */
    const float d = m - c, q = m + c, q_low = m - (q - c), s = d / q, back = product(s, q, &lost);
    const float s_low = (((d - back) - lost) - s * q_low) / q, z = s * s;
    const float r = 9.617967010e-01f + z * (5.770831704e-01f + z * 4.116855264e-01f);
    const float high = product(TWO_LOG2_E, s, &tail);
    tail += TWO_LOG2_E * s_low + TWO_LOG2_E_LOW * s + NEAR[i].log2_low + s * z * r;
    const float sum = whole + high;
    tail += high - (sum - whole);
    const float both = sum + tail;
    *rest = tail - (both - sum);
    return both;
}

/* x^y for a positive finite x. */
static float power(float x, float y)
{
    float low, rest;
    const float high = log2_of(x, &low), about = y * high;
    if (about > 130.0f)
        return INFINITE;
    if (about < -152.0f)
        return 0.0f;
    const float p = product(y, high, &rest);
    const int32_t k = nearest(p);
    const float r = (p - (float)k) + (rest + y * low);
    const float t = 9.618000127e-03f + r * (1.340162475e-03f + r * 1.547736756e-04f);
    return scaled(1.0f + r * (6.931471825e-01f + r * (2.402265072e-01f + r * (5.550324544e-02f + r * t))), k);
}

static int is_odd(float whole)
{
    return ew_absf(whole) < 16777216.0f && ((int32_t)whole & 1) != 0;
}

static int is_whole(float y)
{
    return ew_absf(y) >= 16777216.0f || (float)(int32_t)y == y;
}

float ew_powf(float x, float y)
{
    const float a = ew_absf(x);
    if (y == 0.0f || x == 1.0f)
        return 1.0f;
    if (x != x || y != y || (x < 0.0f && a < INFINITE && !is_whole(y)))
        return NOT_A_NUMBER;
    float result;
    if (a == 0.0f || a == INFINITE)
        result = (a == 0.0f) == (y > 0.0f) ? 0.0f : INFINITE;
    else if (ew_absf(y) == INFINITE)
        result = a == 1.0f ? 1.0f : (a < 1.0f) == (y > 0.0f) ? 0.0f : INFINITE;
    else
        result = power(a, y);
    return (ew_bits(x) >> 31) != 0 && is_whole(y) && is_odd(y) ? -result : result;
}
