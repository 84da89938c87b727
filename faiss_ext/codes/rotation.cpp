#include <faiss_ext/codes/rotation.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/codes/principal_axes.h>
#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/partition/panels.h>
#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/memory/query_rows.h>

namespace faiss_ext {

using kernels::kPanel;

namespace {

/// rows multiplied at once
constexpr size_t kRotateTile = 128;
/// work spaces of LAPACK, a multiple of d * d, are counted in 32 bits
constexpr size_t kMaxDimensions = 16384;

/** Gives axes to blocks, largest variance first, each to the block with room
 * whose product of variances is smallest (Ge et al. 2013, section 3.3.2). Axes
 * beyond the last block keep their places.
 * @return axis for each new dimension */
std::vector<size_t> balance(
        const std::vector<double>& variances,
        const std::vector<uint32_t>& offsets) {
    const size_t coded = offsets.back();
    size_t nblocks = offsets.size() - 1;
    double floor = std::max(variances[0] * 1e-12, 1e-300);
    double smallest = std::max(variances[coded - 1], floor);
    std::vector<double> log_products(nblocks);
    std::vector<size_t> next(offsets.begin(), offsets.end() - 1);
    std::vector<size_t> axis_of(variances.size());
    std::iota(axis_of.begin(), axis_of.end(), 0);
    for (size_t axis = 0; axis < coded; axis++) {
        size_t best = nblocks;
        for (size_t m = 0; m < nblocks; m++) {
            if (next[m] < offsets[m + 1] &&
                (best == nblocks || log_products[m] < log_products[best])) {
                best = m;
            }
        }
        axis_of[next[best]++] = axis;
        // variances are divided by the smallest: products only grow
        log_products[best] +=
                std::log(std::max(variances[axis], floor)) - std::log(smallest);
    }
    return axis_of;
}

/// Whether the leading axes, of descending variances, hold most of it.
bool hold_most(const std::vector<double>& variances, size_t leading) {
    const auto end = variances.begin() + ptrdiff_t(leading);
    const double most = std::accumulate(variances.begin(), end, 0.0);
    return most >= Rotation::kLeadingShare *
                           std::accumulate(end, variances.end(), most);
}

std::vector<float> transposed(size_t d, const std::vector<float>& matrix) {
    std::vector<float> result(d * d);
    for (size_t i = 0; i < d; i++) {
        for (size_t j = 0; j < d; j++) {
            result[j * d + i] = matrix[i * d + j];
        }
    }
    return result;
}

/// out_i = (the leading rows of the panels) x_i, size n * rows
void multiply(
        size_t rows,
        size_t d,
        const AlignedBuffer<float>& panels,
        size_t n,
        const float* x,
        float* out) {
    size_t padded = round_up(rows, kPanel);
    auto work = [&](size_t tile) {
        size_t begin = tile * kRotateTile;
        size_t size = std::min(kRotateTile, n - begin);
        const float* from = x + begin * d;
        float* to = out + begin * rows;
        if (padded == rows) {
            active_kernels().panel_products(
                    {from, size, d, d, panels.data(), rows, to, rows});
            return;
        }
        thread_local AlignedBuffer<float> products;
        products.resize(size * padded);
        active_kernels().panel_products(
                {from,
                 size,
                 d,
                 d,
                 panels.data(),
                 rows,
                 products.mutable_data(),
                 padded});
        for (size_t i = 0; i < size; i++) {
            std::copy_n(products.data() + i * padded, rows, to + i * rows);
        }
    };
    if (n <= kRotateTile) { // a query: nothing but the product
        if (n > 0) {
            work(0);
        }
        return;
    }
    for_tiles((n + kRotateTile - 1) / kRotateTile, work);
}

} // namespace

bool Rotation::train(
        RotationKind kind,
        size_t n,
        size_t d,
        const float* x,
        const std::vector<uint32_t>& offsets,
        uint64_t seed,
        const std::vector<uint32_t>& fewer) {
    FAISS_THROW_IF_NOT_FMT(
            kind == RotationKind::None || d <= kMaxDimensions,
            "a rotation of %zu dimensions (allowed: 1..%zu)",
            d,
            kMaxDimensions);
    switch (kind) {
        case RotationKind::None:
            set_matrix(d, {});
            return false;
        case RotationKind::Random:
            set_matrix(d, random_axes(d, seed));
            return false;
        case RotationKind::PCA:
        case RotationKind::Balanced:
            break;
    }
    FAISS_THROW_IF_NOT_MSG(n > 0 && d > 0, "a rotation needs training rows");
    FAISS_THROW_IF_NOT_MSG(
            all_finite(n * d, x), "a training row has a NaN or infinite value");
    PrincipalAxes principal = principal_axes(n, d, x);
    const bool take_fewer =
            !fewer.empty() && hold_most(principal.values, fewer.back());
    if (kind == RotationKind::PCA) {
        set_matrix(d, std::move(principal.axes));
        return take_fewer;
    }
    FAISS_THROW_IF_NOT_FMT(
            offsets.size() >= 2 && offsets.front() == 0 && offsets.back() <= d,
            "the blocks end at %u (allowed: 1..%zu, the dimensions)",
            offsets.empty() ? 0 : offsets.back(),
            d);
    std::vector<size_t> axis_of =
            balance(principal.values, take_fewer ? fewer : offsets);
    std::vector<float> matrix(d * d);
    for (size_t i = 0; i < d; i++) {
        std::copy_n(&principal.axes[axis_of[i] * d], d, &matrix[i * d]);
    }
    set_matrix(d, std::move(matrix));
    return take_fewer;
}

void Rotation::set_matrix(size_t d, std::vector<float> matrix) {
    FAISS_THROW_IF_NOT_FMT(
            matrix.empty() || matrix.size() == d * d,
            "a rotation of %zd dimensions has %zd values (allowed: %zd)",
            d,
            matrix.size(),
            d * d);
    AlignedBuffer<float> panels;
    AlignedBuffer<float> transposed_panels;
    BytePanels bytes;
    if (!matrix.empty()) {
        bytes = BytePanels(d, d, matrix.data());
        panels = make_panels(d, d, matrix.data());
        transposed_panels = make_panels(d, d, transposed(d, matrix).data());
    }
    d_ = leading_ = d;
    matrix_ = std::move(matrix);
    panels_ = std::move(panels);
    transposed_panels_ = std::move(transposed_panels);
    bytes_ = std::move(bytes);
}

void Rotation::set_importance(const std::vector<float>& importance) {
    if (is_identity()) {
        return;
    }
    const size_t leading = importance.size();
    // Dimension i of a query goes into dimension j by the share matrix_[j][i],
    // and matters there as much as j does.
    std::vector<double> squares(d_);
    for (size_t j = 0; j < leading; j++) {
        for (size_t i = 0; i < d_; i++) {
            double share = double(importance[j]) * matrix_[j * d_ + i];
            squares[i] += share * share;
        }
    }
    bytes_ = BytePanels(leading, d_, matrix_.data(), balanced_weights(squares));
    leading_ = leading;
}

size_t Rotation::memory_usage() const {
    return matrix_.size() * sizeof(float) + panels_.allocated_bytes() +
           transposed_panels_.allocated_bytes() + bytes_.memory_usage();
}

size_t Rotation::estimate_memory(size_t d) {
    size_t padded = round_up(d, kPanel);
    return (d + 2 * padded) * d * sizeof(float) +
           BytePanels::estimate_memory(d, d);
}

void Rotation::apply(size_t n, const float* x, float* out) const {
    if (is_identity()) {
        std::copy_n(x, n * d_, out);
    } else {
        multiply(d_, d_, panels_, n, x, out);
    }
}

const float* Rotation::rotated(const float* x, std::vector<float>& storage)
        const {
    if (is_identity()) {
        return x;
    }
    storage.resize(leading_);
    multiply(leading_, d_, panels_, 1, x, storage.data());
    return storage.data();
}

const float* Rotation::rotated_roughly(
        const float* x,
        std::vector<float>& storage) const {
    if (is_identity()) {
        return x;
    }
    thread_local ByteQueries query;
    query.set(bytes_, 1, x, nullptr);
    storage.resize(bytes_.padded());
    bytes_.scores(active_kernels(), query, {}, storage.data());
    return storage.data();
}

void Rotation::apply_transposed(size_t n, const float* x, float* out) const {
    if (is_identity()) {
        std::copy_n(x, n * d_, out);
    } else {
        multiply(d_, d_, transposed_panels_, n, x, out);
    }
}

} // namespace faiss_ext
