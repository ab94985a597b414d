// One step of decoding on a CPU, for a few tokens: each weight is read once, at the memory's speed.
//
// torch multiplies a matrix with one row at half of that speed, and calls some two hundred operators a step. Here a step
// is one parallel region, and a matrix is read in rows that its threads divide; a few rows together keep enough sums under
// way. Every sum runs over its inputs in one order, W lanes beside each other, whatever the number of tokens and threads:
// what a token gets does not depend, to the bit, on the others.
//
// Weights: f32; bf16; or int8 with an f32 scale for each BLOCK inputs of a row. With int8 the input is rounded to 15
// bits and a sign beside its largest element, so that products are whole numbers. Sums are in f32. Inputs are padded with
// zeros to a multiple of BLOCK.
//
// Vectors are those of GCC and clang, so one source serves AVX2, AVX-512, NEON and machines without any of them. Written
// for AVX2 and AVX-512 too are the product of whole numbers, for which the compilers have no name, and the fused product
// and sum, which they use in one place and not in another unless told.
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
#define W 16
#else
#define W 8
#endif
#define BLOCK 64
#define GROUP 8
#define LINE 16     // floats that memory brings at a time
#define AHEAD 2048  // bytes; processors do not look over the border of a page themselves
#define EACH(i) for (int i = 0; i < W; i++)

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef int16_t vs __attribute__((vector_size(4 * W)));  // 2 W of them, which make W products of pairs
typedef int8_t vb __attribute__((vector_size(2 * W)));

enum Kind { F32, BF16, INT8 };

struct Matrix {
  const void* weight;  // f32: outputs x width; else groups x width / BLOCK x GROUP x BLOCK
  const float* scale;  // groups x width / BLOCK x GROUP; int8 only
  int64_t kind, outputs, width;
};

// A token's input, padded to a matrix's width: `plain`, or for int8 `whole` times `unit`.
struct Input {
  float* plain;
  int16_t* whole;
  float unit;
};

template <class V, class T>
static inline V load(const T* from) {
  V value;
  memcpy(&value, from, sizeof value);
  return value;
}
static inline float total(vf value) {
  for (int half = W / 2; half; half /= 2)
    for (int i = 0; i < half; i++) value[i] += value[i + half];
  return value[0];
}
static inline vf fused(vf a, vf b, vf sum) {
#if defined(__AVX512F__)
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(__AVX2__) && defined(__FMA__)
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#else
  return a * b + sum;
#endif
}
static inline vs widened(const int8_t* from) {
#if defined(__AVX512BW__)
  return (vs)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)from));
#elif defined(__AVX2__) && W == 8
  return (vs)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)from));
#else
  return __builtin_convertvector(load<vb>(from), vs);
#endif
}
static inline vi pairs(vs a, vs b) {
#if defined(__AVX512BW__)
  return (vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__) && W == 8
  return (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
  vi sums;
  EACH(i) sums[i] = (int32_t)a[2 * i] * b[2 * i] + (int32_t)a[2 * i + 1] * b[2 * i + 1];
  return sums;
#endif
}

// R rows of weights with N inputs: y[n][r]. Of the R rows behind them those from `first` on, a `step` apart, are fetched
// meanwhile, so that memory works while what it brought is computed with; step 0: none.
template <int R, int N>
static inline void products(const float* weight, int64_t width, const Input* x, float (*y)[R], int first, int step) {
  vf sums[R][N] = {};
  const float* next = weight + R * width;
  for (int64_t line = 0; line < width; line += LINE) {
    for (int r = first; step && r < R; r += step) __builtin_prefetch(next + r * width + line);
    for (int64_t i = line; i < line + LINE; i += W) {
      vf w[R];
      for (int r = 0; N > 1 && r < R; r++) w[r] = load<vf>(weight + r * width + i);
      for (int n = 0; n < N; n++) {
        vf input = load<vf>(x[n].plain + i);
        for (int r = 0; r < R; r++)
          sums[r][n] = fused(N > 1 ? w[r] : load<vf>(weight + r * width + i), input, sums[r][n]);
      }
    }
  }
  for (int n = 0; n < N; n++)
    for (int r = 0; r < R; r++) y[n][r] = total(sums[r][n]);
}
// Rows of bfloat16 and int8 lie in groups: a block of each row of a group, then the next block. A row is too short for the
// processor to see that it goes on elsewhere; so the memory is read from front to back.
// A bfloat16 is the upper half of a float: of each pair the second is a float once the first is masked away, and the first
// once it is shifted up. So the input has those of even places of 2 W before those of odd ones (`split`).
template <int R, int N>
static inline void products(const uint16_t* weight, int64_t width, const Input* x, float (*y)[R]) {
  vf sums[R][N] = {};
  const float* in[N];
  for (int n = 0; n < N; n++) in[n] = x[n].plain;
  for (int64_t block = 0; block < width; block += BLOCK, weight += GROUP * BLOCK) {
    for (int line = 0; line < R * 2; line++) __builtin_prefetch(weight + AHEAD / sizeof *weight + line * 32);
    for (int i = 0; i < BLOCK; i += 2 * W)
      for (int r = 0; r < R; r++) {
        vu both = load<vu>(weight + r * BLOCK + i);
        vf even = (vf)(both << 16), odd = (vf)(both & 0xffff0000u);
        for (int n = 0; n < N; n++) {
          sums[r][n] = fused(even, load<vf>(in[n] + block + i), sums[r][n]);
          sums[r][n] = fused(odd, load<vf>(in[n] + block + i + W), sums[r][n]);
        }
      }
  }
  for (int n = 0; n < N; n++)
    for (int r = 0; r < R; r++) y[n][r] = total(sums[r][n]);
}
template <int R, int N>
static inline void products(const int8_t* weight, const float* scale, int64_t width, const Input* x, float (*y)[R]) {
  vf sums[R][N] = {};
  const int16_t* in[N];
  for (int n = 0; n < N; n++) in[n] = x[n].whole;
  for (int64_t block = 0; block < width; block += BLOCK, weight += GROUP * BLOCK, scale += GROUP) {
    for (int r = 0; r < R; r++) {
      vi whole[N] = {};
      __builtin_prefetch(weight + AHEAD / sizeof *weight + r * BLOCK);
      for (int i = 0; i < BLOCK; i += 2 * W) {
        vs w = widened(weight + r * BLOCK + i);
        for (int n = 0; n < N; n++) whole[n] += pairs(w, load<vs>(in[n] + block + i));
      }
      vf s = scale[r] - (vf){};
      for (int n = 0; n < N; n++) sums[r][n] = fused(__builtin_convertvector(whole[n], vf), s, sums[r][n]);
    }
  }
  for (int n = 0; n < N; n++)
    for (int r = 0; r < R; r++) y[n][r] = total(sums[r][n]) * x[n].unit;
}
template <int R, int N>
static inline void block(const Matrix& m, int64_t row, const Input* x, float (*y)[R], int first = 0, int step = 0) {
  int64_t at = row / GROUP * GROUP * m.width, in = row % GROUP;
  if (m.kind == F32) products<R, N>((const float*)m.weight + row * m.width, m.width, x, y, first, step);
  if (m.kind == BF16) products<R, N>((const uint16_t*)m.weight + at + in * BLOCK, m.width, x, y);
  if (m.kind == INT8) products<R, N>((const int8_t*)m.weight + at + in * BLOCK, m.scale + at / BLOCK + in, m.width, x, y);
}

// R rows from `row` with all n inputs, N at a time; from the second time on the rows are in the cache.
// out(n, row, value) takes each product.
template <int R, int N, class Out>
static inline void some_rows(const Matrix& m, int64_t row, const Input* x, int64_t n, Out out) {
  float y[N][R] = {};
  for (int64_t first = 0; first < n;) {
    int64_t now = n - first >= N ? N : 1;
    if (now == N) block<R, N>(m, row, x + first, y, first / N, n / N);
    else block<R, 1>(m, row, x + first, y);
    for (int64_t i = 0; i < now; i++)
      for (int r = 0; r < R; r++) out(first + i, row + r, y[i][r]);
    first += now;
  }
}
// As many sums at a time as there are registers for, and never over the border of a group.
template <class Out>
static void rows(const Matrix& m, int64_t begin, int64_t end, const Input* x, int64_t n, Out out) {
  int64_t row = begin;
  if (n == 1)
    for (; row + 8 <= end; row += 8) some_rows<8, 1>(m, row, x, n, out);
  if (m.kind == F32)
    for (; row + 6 <= end; row += 6) some_rows<6, 2>(m, row, x, n, out);
  else
    for (; row + 2 <= end; row += 2) some_rows<2, 4>(m, row, x, n, out);
  for (; row < end; row++) some_rows<1, 1>(m, row, x, n, out);
}
// The part of `count` that falls to a thread, in whole groups of 24 rows.
static inline void share(int64_t count, int64_t* begin, int64_t* end) {
  int64_t groups = (count + 23) / 24, threads = omp_get_num_threads(), mine = omp_get_thread_num();
  *begin = groups * mine / threads * 24;
  *end = groups * (mine + 1) / threads * 24;
  if (*end > count) *end = count;
}

static void round_input(Input& x, int64_t width) {
  float largest = 0;
  bool finite = true;
  for (int64_t i = 0; i < width; i++) {
    largest = fmaxf(largest, fabsf(x.plain[i]));
    finite = finite && isfinite(x.plain[i]);
  }
  x.unit = finite ? largest / 32767 : NAN;  // what is no number stays that
  float inverse = finite && largest > 0 ? 32767 / largest : 0;
  for (int64_t i = 0; i < width; i++) x.whole[i] = finite ? (int16_t)lrintf(x.plain[i] * inverse) : 0;
}
static void split(Input& x, int64_t width) {
  for (int64_t i = 0; i < width; i += 2 * W) {
    float odd[W];
    EACH(j) odd[j] = x.plain[i + 2 * j + 1];
    EACH(j) x.plain[i + j] = x.plain[i + 2 * j];
    memcpy(x.plain + i + W, odd, sizeof odd);
  }
}
// `length` elements of `from`, padded; x / root mean square * weight where there is a weight.
static void prepare(Input& x, const float* from, int64_t length, const float* weight, float epsilon, const Matrix& m) {
  float inverse = 1;
  if (weight) {
    vf squares = {};
    double rest = 0;
    int64_t i = 0;
    for (; i + W <= length; i += W) squares += load<vf>(from + i) * load<vf>(from + i);
    for (; i < length; i++) rest += from[i] * from[i];
    inverse = 1 / sqrtf((total(squares) + (float)rest) / length + epsilon);
  }
  for (int64_t i = 0; i < length; i++) x.plain[i] = weight ? from[i] * inverse * weight[i] : from[i];
  for (int64_t i = length; i < m.width; i++) x.plain[i] = 0;
  if (m.kind == BF16) split(x, m.width);
  if (m.kind == INT8) round_input(x, m.width);
}

// e^x for x <= 0, to 2e-7 of itself; 0 below -87.
static inline vf exponential(vf x) {
  vi below = x < -87.0f;
  vf turns = x * 1.44269504f;
  vi whole = __builtin_convertvector(turns - 0.5f, vi);
  vf n = __builtin_convertvector(whole, vf);
  vf r = x - n * 0.693359375f + n * 2.12194440e-4f;
  vf p = (1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = (p * r + 1.6666665459e-1f) * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  vf power = (vf)((whole + 127) << 23);
  return (vf)((vi)(p * power) & ~below);
}

// V vectors of the mean of values by their scores, beside each other, since each sum waits for its last product.
template <int V>
static inline void mix(const float* values, int64_t length, int64_t width, const float* scores, float inverse, float* out) {
  vf sums[V] = {};
  for (int64_t p = 0; p < length; p++) {
    vf score = scores[p] - (vf){};
    for (int v = 0; v < V; v++) sums[v] = fused(load<vf>(values + p * width + v * W), score, sums[v]);
  }
  for (int v = 0; v < V; v++) sums[v] *= inverse;
  memcpy(out, sums, sizeof sums);
}
// One head's attention over `length` positions; scores: room for them and W more.
static void attend(
    const float* q, const float* keys, const float* values, int64_t length, int64_t width, float* scores, float* out) {
  float scale = 1 / sqrtf((float)width), largest = -INFINITY;
  for (int64_t p = 0; p < length; p++) {
    vf sum = {};
    float rest = 0;
    int64_t i = 0;
    for (; i + W <= width; i += W) sum += load<vf>(q + i) * load<vf>(keys + p * width + i);
    for (; i < width; i++) rest += q[i] * keys[p * width + i];
    scores[p] = (total(sum) + rest) * scale;
    largest = fmaxf(largest, scores[p]);
  }
  for (int64_t p = length; p < length + W; p++) scores[p] = -INFINITY;
  vf sums = {};
  for (int64_t p = 0; p < length; p += W) {
    vf e = exponential(load<vf>(scores + p) - largest);
    memcpy(scores + p, &e, sizeof e);
    sums += e;
  }
  float inverse = 1 / total(sums);
  int64_t i = 0;
  for (; i + 8 * W <= width; i += 8 * W) mix<8>(values + i, length, width, scores, inverse, out + i);
  for (; i + 4 * W <= width; i += 4 * W) mix<4>(values + i, length, width, scores, inverse, out + i);
  for (; i + W <= width; i += W) mix<1>(values + i, length, width, scores, inverse, out + i);
  for (; i < width; i++) {
    out[i] = 0;
    for (int64_t p = 0; p < length; p++) out[i] += values[p * width + i] * scores[p] * inverse;
  }
}
static void turn(float* x, int64_t width, const float* cosine, const float* sine) {
  for (int64_t f = 0; f < width / 2; f++) {
    float even = x[2 * f], odd = x[2 * f + 1];
    x[2 * f] = even * cosine[f] - odd * sine[f];
    x[2 * f + 1] = even * sine[f] + odd * cosine[f];
  }
}

struct LayerWeights {
  const float* attention_norm;
  Matrix qkv, wo;
  const float* ffn_norm;
  Matrix w13, w2;
};
struct Shape {
  int64_t dim, heads, kv_heads, head_dim, hidden, layers, slots, context, widest;
  float epsilon;
};

// Room for the inputs of n tokens, `widest` wide each, as this thread's own.
struct Inputs {
  Input* all;
  int64_t count;
  Inputs(int64_t n, int64_t widest) : all((Input*)malloc(n * sizeof(Input))), count(n) {
    for (int64_t i = 0; i < n; i++) {
      all[i].plain = (float*)aligned_alloc(64, widest * 4);
      all[i].whole = (int16_t*)aligned_alloc(64, widest * 2);
    }
  }
  ~Inputs() {
    for (int64_t i = 0; i < count; i++) free(all[i].plain), free(all[i].whole);
    free(all);
  }
};

extern "C" {
int64_t puna_block() { return BLOCK; }

// y (n, outputs) = x (n, inputs) times m.
void puna_linear(const Matrix* m, const float* x, int64_t inputs, int64_t n, float* y, int64_t threads) {
#pragma omp parallel num_threads(threads)
  {
    Inputs in(n, m->width);
    for (int64_t i = 0; i < n; i++) prepare(in.all[i], x + i * inputs, inputs, nullptr, 0, *m);
    int64_t begin, end;
    share(m->outputs, &begin, &end);
    rows(*m, begin, end, in.all, n, [&](int64_t i, int64_t row, float value) { y[i * m->outputs + row] = value; });
  }
}

// All layers over n tokens, x (n, dim) in place. Token i is at `positions[i]` of `slots[i]`; its slot holds what comes
// before it, or tokens before it in this call do. keys, values: (layers, slots, kv_heads, context, head_dim). cosines, sines:
// (context, head_dim / 2). room: n x (widest output + dim + hidden) floats.
void puna_layers(const Shape* s, const LayerWeights* layers, float* x, int64_t n, const int64_t* slots,
                 const int64_t* positions, float* keys, float* values, const float* cosines, const float* sines, float* room,
                 int64_t threads) {
  const int64_t dim = s->dim, K = s->head_dim, H = s->heads, G = s->kv_heads, hidden = s->hidden;
  const int64_t fused = (H + 2 * G) * K, head = s->context * K, slot = G * head;
  float *qkv = room, *mixed = qkv + n * fused, *gated = mixed + n * dim;
#pragma omp parallel num_threads(threads)
  {
    Inputs in(n, s->widest);
    float* scores = (float*)aligned_alloc(64, (s->context + 2 * W + 15) / 16 * 64);
    for (int64_t l = 0; l < s->layers; l++) {
      const LayerWeights& layer = layers[l];
      int64_t begin, end, base = l * s->slots * slot;
      for (int64_t i = 0; i < n; i++)
        prepare(in.all[i], x + i * dim, dim, layer.attention_norm, s->epsilon, layer.qkv);
      share(fused, &begin, &end);
      rows(layer.qkv, begin, end, in.all, n, [&](int64_t i, int64_t row, float value) { qkv[i * fused + row] = value; });
#pragma omp barrier
#pragma omp for
      for (int64_t at = 0; at < n * (H + 2 * G); at++) {
        int64_t i = at / (H + 2 * G), h = at % (H + 2 * G), p = positions[i];
        float* from = qkv + i * fused + h * K;
        if (h < H + G) turn(from, K, cosines + p * K / 2, sines + p * K / 2);
        if (h >= H) {
          int64_t g = (h - H) % G;
          memcpy((h < H + G ? keys : values) + base + slots[i] * slot + g * head + p * K, from, K * 4);
        }
      }
#pragma omp for schedule(dynamic)
      for (int64_t at = 0; at < n * H; at++) {
        int64_t i = at / H, h = at % H, own = base + slots[i] * slot + h / (H / G) * head;
        attend(qkv + i * fused + h * K, keys + own, values + own, positions[i] + 1, K, scores, mixed + i * dim + h * K);
      }
      for (int64_t i = 0; i < n; i++) prepare(in.all[i], mixed + i * dim, dim, nullptr, 0, layer.wo);
      share(dim, &begin, &end);
      rows(layer.wo, begin, end, in.all, n, [&](int64_t i, int64_t row, float value) { x[i * dim + row] += value; });
#pragma omp barrier
      for (int64_t i = 0; i < n; i++) prepare(in.all[i], x + i * dim, dim, layer.ffn_norm, s->epsilon, layer.w13);
      share(hidden, &begin, &end);
      rows(layer.w13, begin, end, in.all, n, [&](int64_t i, int64_t row, float a) { gated[i * hidden + row] = a / (1 + expf(-a)); });
      rows(layer.w13, hidden + begin, hidden + end, in.all, n,
           [&](int64_t i, int64_t row, float b) { gated[i * hidden + row - hidden] *= b; });
#pragma omp barrier
      for (int64_t i = 0; i < n; i++) prepare(in.all[i], gated + i * hidden, hidden, nullptr, 0, layer.w2);
      share(dim, &begin, &end);
      rows(layer.w2, begin, end, in.all, n, [&](int64_t i, int64_t row, float value) { x[i * dim + row] += value; });
#pragma omp barrier
    }
    free(scores);
  }
}
}  // extern "C"
