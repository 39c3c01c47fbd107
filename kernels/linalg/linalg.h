// Small systems of linear equations: matrices in rows, one after the other. Where a matrix is singular, results are
// infinite or NaN, and info, which may be null, says from which row on; PyTorch raises an error there.
#pragma once

#include <math.h>
#include <stdint.h>

namespace et {

// a = P L U in its own place, by partial pivoting; pivots count from 1, as LAPACK's do. 0, or 1 + the first row without
// a pivot.
inline int32_t factorise(float* a, int32_t* pivots, int32_t n) {
  int32_t info = 0;
  for (int32_t k = 0; k < n; ++k) {
    int32_t best = k;
    for (int32_t i = k + 1; i < n; ++i) {
      if (fabsf(a[i * n + k]) > fabsf(a[best * n + k])) best = i;
    }
    pivots[k] = best + 1;
    for (int32_t j = 0; j < n && best != k; ++j) {
      const float other = a[best * n + j];
      a[best * n + j] = a[k * n + j];
      a[k * n + j] = other;
    }
    if (a[k * n + k] == 0.0f) {
      if (info == 0) info = k + 1;
      continue;
    }
    for (int32_t i = k + 1; i < n; ++i) {
      const float factor = a[i * n + k] / a[k * n + k];
      a[i * n + k] = factor;
      for (int32_t j = k + 1; j < n; ++j) {
        a[i * n + j] -= factor * a[k * n + j];
      }
    }
  }
  return info;
}

// b, (n, columns), becomes the solution of P L U x = b.
inline void substitute(const float* lu, const int32_t* pivots, float* b, int32_t n, int32_t columns) {
  for (int32_t k = 0; k < n; ++k) {
    float* const row = b + k * columns;
    float* const other = b + (pivots[k] - 1) * columns;
    for (int32_t j = 0; j < columns && other != row; ++j) {
      const float value = other[j];
      other[j] = row[j];
      row[j] = value;
    }
  }
  for (int32_t i = 1; i < n; ++i) {
    for (int32_t k = 0; k < i; ++k) {
      for (int32_t j = 0; j < columns; ++j) {
        b[i * columns + j] -= lu[i * n + k] * b[k * columns + j];
      }
    }
  }
  for (int32_t i = n - 1; i >= 0; --i) {
    for (int32_t j = 0; j < columns; ++j) {
      float value = b[i * columns + j];
      for (int32_t k = i + 1; k < n; ++k) {
        value -= lu[i * n + k] * b[k * columns + j];
      }
      b[i * columns + j] = value / lu[i * n + i];
    }
  }
}

// G: batch, n (rows and columns of each matrix), columns of the right sides. lu and pivots: as many as the matrices
// have elements and rows.
template <class G>
void solve(const G& g, float* out, float* lu, int32_t* pivots, int32_t* info, const float* a, const float* b) {
  const int32_t size = g.n * g.n;
  for (int32_t i = 0; i < g.batch * size; ++i) {
    lu[i] = a[i];
  }
  for (int32_t i = 0; i < g.batch * g.n * g.columns; ++i) {
    out[i] = b[i];
  }
  for (int32_t at = 0; at < g.batch; ++at) {
    const int32_t failed = factorise(lu + at * size, pivots + at * g.n, g.n);
    if (info != nullptr) info[at] = failed;
    substitute(lu + at * size, pivots + at * g.n, out + at * g.n * g.columns, g.n, g.columns);
  }
}

// lu and pivots are room for one matrix.
template <class G>
void inverse(const G& g, float* out, float* lu, int32_t* pivots, int32_t* info, const float* a) {
  const int32_t size = g.n * g.n;
  for (int32_t at = 0; at < g.batch; ++at) {
    for (int32_t i = 0; i < size; ++i) {
      lu[i] = a[at * size + i];
      out[at * size + i] = i % (g.n + 1) == 0 ? 1.0f : 0.0f;
    }
    const int32_t failed = factorise(lu, pivots, g.n);
    if (info != nullptr) info[at] = failed;
    substitute(lu, pivots, out + at * size, g.n, g.n);
  }
}

// lu is that of the transposed matrices, as PyTorch's.
template <class G>
void determinant(const G& g, float* out, float* lu, int32_t* pivots, const float* a) {
  const int32_t size = g.n * g.n;
  for (int32_t at = 0; at < g.batch; ++at) {
    for (int32_t i = 0; i < size; ++i) {
      lu[at * size + i] = a[at * size + i % g.n * g.n + i / g.n];
    }
    factorise(lu + at * size, pivots + at * g.n, g.n);
    float product = 1.0f;
    for (int32_t k = 0; k < g.n; ++k) {
      const float pivot = lu[at * size + k * (g.n + 1)];
      product *= pivots[at * g.n + k] == k + 1 ? pivot : -pivot;
    }
    out[at] = product;
  }
}

// The lower factor of a symmetric matrix, of which the lower half is read, or (G: upper) the upper one, and its half.
template <class G>
void cholesky(const G& g, float* out, int32_t* info, const float* a) {
  const int32_t across = g.upper ? g.n : 1;  // from one element of the factor's row to the next
  const int32_t down = g.upper ? 1 : g.n;
  for (int32_t at = 0; at < g.batch; ++at) {
    const float* const matrix = a + at * g.n * g.n;
    float* const factor = out + at * g.n * g.n;
    int32_t failed = 0;
    for (int32_t i = 0; i < g.n; ++i) {
      for (int32_t j = 0; j < g.n; ++j) {
        float value = j <= i ? matrix[i * down + j * across] : 0.0f;
        for (int32_t k = 0; k < j && j <= i; ++k) {
          value -= factor[i * down + k * across] * factor[j * down + k * across];
        }
        if (j < i) value /= factor[j * down + j * across];
        if (j == i) {
          if (!(value > 0.0f) && failed == 0) failed = i + 1;
          value = sqrtf(value);
        }
        factor[i * down + j * across] = value;
      }
    }
    if (info != nullptr) info[at] = failed;
  }
}

}  // namespace et
