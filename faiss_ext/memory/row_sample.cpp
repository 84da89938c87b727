#include <faiss_ext/memory/row_sample.h>

#include <algorithm>
#include <cmath>
#include <random>

#include <faiss_ext/memory/row_products.h>

namespace faiss_ext {

std::vector<size_t> sample_rows(size_t n, size_t wanted, uint64_t seed) {
    const size_t m = std::min(n, wanted);
    std::mt19937_64 random(seed);
    std::vector<size_t> rows(m);
    for (size_t i = 0; i < m; i++) {
        size_t begin = size_t(double(n) * i / m);
        size_t end = i + 1 < m ? size_t(double(n) * (i + 1) / m) : n;
        rows[i] = begin + random() % std::max<size_t>(end - begin, 1);
    }
    for (size_t i = m; i > 1; i--) {
        std::swap(rows[i - 1], rows[random() % i]);
    }
    return rows;
}

void gather_rows(
        size_t n,
        const size_t* rows,
        size_t d,
        const float* x,
        float* gathered) {
    for (size_t i = 0; i < n; i++) {
        std::copy_n(x + rows[i] * d, d, gathered + i * d);
    }
}

void scale_to_unit(size_t n, size_t d, float* rows) {
    for (size_t i = 0; i < n; i++) {
        float* row = rows + i * d;
        const double length = std::sqrt(precise_square(d, row));
        for (size_t j = 0; j < d && length > 0; j++) {
            row[j] = float(row[j] / length);
        }
    }
}

std::vector<float> row_lengths(size_t n, size_t d, const float* x) {
    std::vector<float> lengths(n);
    for (size_t i = 0; i < n; i++) {
        lengths[i] = float(std::sqrt(precise_square(d, x + i * d)));
    }
    return lengths;
}

float quantile(std::vector<float> values, double share) {
    if (values.empty()) {
        return 0;
    }
    auto at = values.begin() + ptrdiff_t(share * double(values.size() - 1));
    std::nth_element(values.begin(), at, values.end());
    return *at;
}

float robust_largest(const std::vector<float>& values) {
    const float largest = quantile(values, 1);
    const float median = quantile(values, 0.5);
    return median > 0 ? std::min(largest, 2 * median) : largest;
}

std::vector<float>
dimension_medians(size_t n, size_t d, const float* x, size_t most) {
    const size_t count = std::min(n, most);
    std::vector<float> result(d), values(count);
    for (size_t i = 0; i < d; i++) {
        for (size_t s = 0; s < count; s++) {
            values[s] = x[s * n / count * d + i];
        }
        result[i] = quantile(values, 0.5);
    }
    return result;
}

} // namespace faiss_ext
