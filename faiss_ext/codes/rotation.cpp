#include <faiss_ext/codes/rotation.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <random>
#include <utility>

#include <omp.h>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/partition/kmeans.h>
#include <faiss_ext/partition/panels.h>
#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/memory/query_rows.h>

extern "C" {
// LAPACK, which Faiss links anyway
int dsyevd_(
        const char* jobz,
        const char* uplo,
        const int* n,
        double* a,
        const int* lda,
        double* w,
        double* work,
        const int* lwork,
        int* iwork,
        const int* liwork,
        int* info);
int dgeqrf_(
        const int* m,
        const int* n,
        double* a,
        const int* lda,
        double* tau,
        double* work,
        const int* lwork,
        int* info);
int dorgqr_(
        const int* m,
        const int* n,
        const int* k,
        double* a,
        const int* lda,
        const double* tau,
        double* work,
        const int* lwork,
        int* info);
// absent from other BLAS libraries
__attribute__((weak)) int openblas_get_num_threads(void);
__attribute__((weak)) void openblas_set_num_threads(int);
}

namespace faiss_ext {

using kernels::kPanel;

namespace {

/// rows multiplied at once, in apply() and in second_moments()
constexpr size_t kRotateTile = 128;
constexpr size_t kMomentRows = 1024;
/// work spaces of LAPACK, a multiple of d * d, are counted in 32 bits
constexpr size_t kMaxDimensions = 16384;

/** While this lives, OpenBLAS uses the calling thread only: its own threads
 * would exceed what the caller allowed, and its sums depend on their number.
 * Where it was built with OpenMP (wheels), its threads are the caller's, and
 * its own functions set their number. */
class OneBlasThread {
 public:
    OneBlasThread() : omp_threads_(omp_get_max_threads()) {
        omp_set_num_threads(1);
        if (openblas_get_num_threads && openblas_set_num_threads) {
            threads_ = openblas_get_num_threads();
            openblas_set_num_threads(1);
        }
    }
    ~OneBlasThread() {
        if (threads_ > 0) {
            openblas_set_num_threads(threads_);
        }
        omp_set_num_threads(omp_threads_);
    }
    OneBlasThread(const OneBlasThread&) = delete;
    OneBlasThread& operator=(const OneBlasThread&) = delete;

 private:
    const int omp_threads_;
    int threads_ = 0;
};

/// sum x x^T, size d * d: in floats over kMomentRows rows, these in doubles.
std::vector<double> second_moments(size_t n, size_t d, const float* x) {
    size_t npanels = (d + kPanel - 1) / kPanel;
    size_t padded = npanels * kPanel;
    std::vector<double> moments(d * d);
    AlignedBuffer<float> columns(padded * kMomentRows); // x^T, row-major
    AlignedBuffer<float> panels(padded * kMomentRows);  // x^T, as panels
    float* columns_out = columns.mutable_data();
    float* panels_out = panels.mutable_data();
    for (size_t begin = 0; begin < n; begin += kMomentRows) {
        size_t size = std::min(kMomentRows, n - begin);
        for_tiles(npanels, [&](size_t p) {
            float* panel = panels_out + p * size * kPanel;
            size_t width = std::min(kPanel, d - p * kPanel);
            for (size_t r = 0; r < size; r++) {
                const float* row = x + (begin + r) * d + p * kPanel;
                for (size_t l = 0; l < width; l++) {
                    panel[r * kPanel + l] = row[l];
                    columns_out[(p * kPanel + l) * size + r] = row[l];
                }
            }
        });
        for_tiles(npanels, [&](size_t p) {
            // panels p and later: the rest is symmetric
            size_t width = std::min(kPanel, d - p * kPanel);
            size_t others = padded - p * kPanel;
            AlignedBuffer<float> products(width * others);
            active_kernels().panel_products(
                    {columns_out + p * kPanel * size,
                     width,
                     size,
                     size,
                     panels_out + p * kPanel * size,
                     d - p * kPanel,
                     products.mutable_data(),
                     others});
            for (size_t l = 0; l < width; l++) {
                size_t i = p * kPanel + l;
                for (size_t j = i; j < d; j++) {
                    moments[i * d + j] += products[l * others + j - p * kPanel];
                }
            }
        });
    }
    for (size_t i = 0; i < d; i++) {
        for (size_t j = 0; j < i; j++) {
            moments[i * d + j] = moments[j * d + i];
        }
    }
    return moments;
}

/// Eigenvalues and the eigenvectors as rows, largest eigenvalue first.
struct PrincipalAxes {
    std::vector<double> values;
    std::vector<float> axes;
};

/** Rows whose squares could leave the range of floats, scaled by a power of
 * two, which changes no axis; others as they are.
 * @return x itself, or a copy in `storage` */
const float* within_exponents(
        size_t n,
        size_t d,
        const float* x,
        std::vector<float>& storage) {
    constexpr int kMaxExponent = 40; // 1e-12 to 1e12
    float largest = 0;
    for (size_t i = 0; i < n * d; i++) {
        largest = std::max(largest, std::fabs(x[i]));
    }
    int exponent = 0;
    std::frexp(largest, &exponent);
    if (largest == 0 || std::abs(exponent) <= kMaxExponent) {
        return x;
    }
    storage.resize(n * d);
    for (size_t i = 0; i < n * d; i++) {
        storage[i] = std::ldexp(x[i], -exponent);
    }
    return storage.data();
}

PrincipalAxes principal_axes(size_t n, size_t d, const float* x) {
    std::vector<float> scaled;
    x = within_exponents(n, d, x, scaled);
    std::vector<double> matrix = second_moments(n, d, x);
    std::vector<double> values(d);
    int size = int(d), info = 0, lwork = -1, liwork = -1, liwork_best = 0;
    double lwork_best = 0;
    OneBlasThread one_thread;
    auto solve = [&](double* work, int* iwork) {
        dsyevd_("V",
                "U",
                &size,
                matrix.data(),
                &size,
                values.data(),
                work,
                &lwork,
                iwork,
                &liwork,
                &info);
        FAISS_THROW_IF_NOT_FMT(
                info == 0, "eigenvalues did not converge (info %d)", info);
    };
    solve(&lwork_best, &liwork_best);
    lwork = int(lwork_best);
    liwork = liwork_best;
    std::vector<double> work(lwork);
    std::vector<int> iwork(liwork);
    solve(work.data(), iwork.data());

    // ascending, one eigenvector per column of a column-major matrix
    PrincipalAxes result;
    for (size_t i = d; i-- > 0;) {
        result.values.push_back(std::max(values[i], 0.0));
        const double* axis = matrix.data() + i * d;
        // an axis has two signs: the largest value becomes positive, so that
        // LAPACK's choice does not matter
        auto larger = [](double a, double b) {
            return std::fabs(a) < std::fabs(b);
        };
        double sign = *std::max_element(axis, axis + d, larger) < 0 ? -1 : 1;
        for (size_t j = 0; j < d; j++) {
            result.axes.push_back(float(sign * axis[j]));
        }
    }
    return result;
}

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

/// Q of the QR decomposition of a normal matrix: uniform over rotations.
std::vector<float> random_axes(size_t d, uint64_t seed) {
    std::mt19937_64 random(seed);
    auto uniform = [&random] { // (0, 1)
        return (double(random() >> 12) + 0.5) * 0x1p-52;
    };
    std::vector<double> matrix(d * d);
    for (double& value : matrix) { // Box and Muller
        double angle = 2 * std::acos(-1.0) * uniform();
        value = std::sqrt(-2 * std::log(uniform())) * std::cos(angle);
    }
    int size = int(d), info = 0, lwork = int(64 * d);
    std::vector<double> tau(d), work(lwork), signs(d);
    OneBlasThread one_thread;
    dgeqrf_(&size,
            &size,
            matrix.data(),
            &size,
            tau.data(),
            work.data(),
            &lwork,
            &info);
    for (size_t i = 0; i < d; i++) {
        signs[i] = matrix[i * d + i] < 0 ? -1 : 1;
    }
    if (info == 0) {
        dorgqr_(&size,
                &size,
                &size,
                matrix.data(),
                &size,
                tau.data(),
                work.data(),
                &lwork,
                &info);
    }
    FAISS_THROW_IF_NOT_FMT(info == 0, "QR decomposition: info %d", info);
    std::vector<float> axes(d * d);
    for (size_t i = 0; i < d * d; i++) {
        axes[i] = float(matrix[i] * signs[i / d]);
    }
    return axes;
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
