#include <faiss_ext/codes/principal_axes.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>

#include <omp.h>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/memory/aligned_buffer.h>
#include <faiss_ext/memory/parallel.h>

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

/// Rows whose products are summed in floats.
constexpr size_t kMomentRows = 1024;

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

} // namespace

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

} // namespace faiss_ext
