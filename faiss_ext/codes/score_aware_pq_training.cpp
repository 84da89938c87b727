#include <faiss_ext/codes/score_aware_pq_training.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/codes/score_aware_pq.h>
#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/partition/kmeans.h>

namespace faiss_ext {

using kernels::kCodewords;

namespace {

/// rows encoded in one call of the kernel
constexpr size_t kTrainRows = 64;
/// rows of a tile, which has sums of its own: these are added in the order of
/// the tiles, whatever the number of threads
constexpr size_t kSumRows = 1024;
/// rows from which the first codewords are drawn
constexpr size_t kSeedRows = 1024;
/// dimensions whose directions are gathered at once
constexpr size_t kGatherDims = 32;

/** Solves A x = b, A symmetric positive definite of w <= 8 rows (lower
 * triangle, row-major), by Cholesky. b becomes x. */
void solve(size_t w, double* a, double* b) {
    for (size_t i = 0; i < w; i++) {
        for (size_t j = 0; j <= i; j++) {
            double sum = a[i * w + j];
            for (size_t k = 0; k < j; k++) {
                sum -= a[i * w + k] * a[j * w + k];
            }
            a[i * w + j] = i == j ? std::sqrt(sum) : sum / a[j * w + j];
        }
        for (size_t k = 0; k < i; k++) {
            b[i] -= a[i * w + k] * b[k];
        }
        b[i] /= a[i * w + i];
    }
    for (size_t i = w; i-- > 0;) {
        for (size_t k = i + 1; k < w; k++) {
            b[i] -= a[k * w + i] * b[k];
        }
        b[i] /= a[i * w + i];
    }
}

/** Sums over the rows of each codeword (m, j): their number, their residuals
 * and, if aware, the lower triangle of their u u^T. */
class CodewordSums {
 public:
    CodewordSums(const std::vector<uint32_t>& offsets, bool aware)
            : offsets_(offsets), aware_(aware) {
        size_t total = 0;
        for (size_t m = 0; m + 1 < offsets.size(); m++) {
            begin_.push_back(total);
            total += stride(m) * kCodewords;
        }
        sums_.resize(total);
    }

    size_t width(size_t m) const {
        return offsets_[m + 1] - offsets_[m];
    }
    const double* of(size_t m, size_t j) const {
        return sums_.data() + begin_[m] + j * stride(m);
    }

    void add_row(const float* residual, const float* u, const uint8_t* codes) {
        for (size_t m = 0; m < begin_.size(); m++) {
            double* sum = sums_.data() + begin_[m] + codes[m] * stride(m);
            size_t o = offsets_[m];
            size_t w = width(m);
            *sum++ += 1;
            for (size_t i = 0; i < w; i++) {
                *sum++ += residual[o + i];
            }
            for (size_t i = 0; i < w && aware_; i++) {
                for (size_t k = 0; k <= i; k++) {
                    *sum++ += double(u[o + i]) * u[o + k];
                }
            }
        }
    }

    void add(const CodewordSums& other) {
        for (size_t i = 0; i < sums_.size(); i++) {
            sums_[i] += other.sums_[i];
        }
    }

 private:
    size_t stride(size_t m) const {
        size_t w = width(m);
        return 1 + w + (aware_ ? w * (w + 1) / 2 : 0);
    }

    const std::vector<uint32_t>& offsets_;
    bool aware_;
    std::vector<size_t> begin_;
    std::vector<double> sums_;
};

class Trainer {
 public:
    Trainer(const std::vector<uint32_t>& offsets,
            size_t n,
            const float* residuals,
            const float* directions,
            const ScoreAwarePQTraining& training)
            : offsets_(offsets),
              M_(offsets.size() - 1),
              d_(offsets.back()),
              eta_(training.eta),
              residuals_(residuals),
              directions_(directions),
              codebook_(d_ * kCodewords),
              random_(training.seed) {
        // in random order: the first ones become codewords
        rows_ = sample_rows(n, training.max_points, random_());
        codes_.resize(rows_.size() * M_);
        parallel_.resize(rows_.size());
    }

    AlignedBuffer<float> run(const ScoreAwarePQTraining& training) {
        size_t aware_rounds = eta_ > 1 ? training.aware_rounds : 0;
        size_t total = training.kmeans_rounds + aware_rounds;
        auto report = [&](size_t done) {
            if (training.on_round) {
                training.on_round(done, total);
            }
        };
        draw_codewords();
        for (size_t r = 0; r < training.kmeans_rounds; r++) {
            report(r);
            take_means(encode(false));
        }
        for (size_t r = 0; r < aware_rounds; r++) {
            report(training.kmeans_rounds + r);
            CodewordSums sums = encode(true);
            if (training.losses) {
                training.losses->push_back(loss_ / double(rows_.size()));
            }
            coded_ = true;
            move_codewords(sums);
        }
        report(total);
        if (training.losses && aware_rounds > 0) {
            training.losses->push_back(loss_of_codes() / double(rows_.size()));
        }
        return std::move(codebook_);
    }

 private:
    const float* residual(size_t i) const {
        return residuals_ + rows_[i] * d_;
    }
    const float* direction(size_t i) const {
        return directions_ + rows_[i] * d_;
    }
    size_t ntiles() const {
        return (rows_.size() + kSumRows - 1) / kSumRows;
    }

    /// k-means++ in each block, on the first rows
    void draw_codewords() {
        size_t n = std::min(kSeedRows, rows_.size());
        uint64_t seed = random_();
        float* codebook = codebook_.mutable_data();
        for_tiles(M_, [&](size_t m) {
            std::mt19937_64 random(seed + m);
            size_t w = offsets_[m + 1] - offsets_[m];
            size_t o = offsets_[m];
            std::vector<float> values(n * w);
            for (size_t i = 0; i < n; i++) {
                std::copy_n(residual(i) + o, w, &values[i * w]);
            }
            std::vector<double> distances(n, HUGE_VAL);
            size_t chosen = random() % n;
            for (size_t j = 0; j < kCodewords; j++) {
                double total = 0;
                for (size_t i = 0; i < n; i++) {
                    double distance = 0;
                    for (size_t a = 0; a < w; a++) {
                        double e = values[i * w + a] - values[chosen * w + a];
                        distance += e * e;
                    }
                    distances[i] = std::min(distances[i], distance);
                    total += distances[i];
                }
                for (size_t a = 0; a < w; a++) {
                    codebook[(o + a) * kCodewords + j] = values[chosen * w + a];
                }
                double left = double(random() >> 11) * 0x1p-53 * total;
                chosen = 0;
                while (chosen + 1 < n && left >= distances[chosen]) {
                    left -= distances[chosen++];
                }
            }
        });
    }

    /** Encodes the rows of this round and adds up the sums of each codeword.
     * Aware: also loss_ and parallel_; a row keeps its codes of the last round
     * unless the new ones are better, so that the loss never rises. */
    CodewordSums encode(bool aware) {
        std::vector<CodewordSums> sums(ntiles(), CodewordSums(offsets_, aware));
        std::vector<double> losses(ntiles());
        for_tiles(ntiles(), [&](size_t tile) {
            size_t end = std::min(rows_.size(), (tile + 1) * kSumRows);
            std::vector<float> x(kTrainRows * d_);
            std::vector<float> u(aware ? kTrainRows * d_ : 0);
            std::vector<uint8_t> codes(kTrainRows * M_);
            AlignedBuffer<float> scratch(M_ * 2 * kCodewords);
            for (size_t begin = tile * kSumRows; begin < end;
                 begin += kTrainRows) {
                size_t n = std::min(kTrainRows, end - begin);
                for (size_t i = 0; i < n; i++) {
                    std::copy_n(residual(begin + i), d_, &x[i * d_]);
                    if (aware) {
                        std::copy_n(direction(begin + i), d_, &u[i * d_]);
                    }
                }
                active_kernels().encode(
                        {.residuals = x.data(),
                         .directions = u.data(),
                         .n = n,
                         .offsets = offsets_.data(),
                         .M = M_,
                         .codebook = codebook_.data(),
                         .eta = aware ? eta_ : 1,
                         .max_rounds = kDescentRounds,
                         .scratch = scratch.mutable_data(),
                         .codes = codes.data()});
                for (size_t i = 0; i < n; i++) {
                    const float* xi = &x[i * d_];
                    const float* ui = u.data() + (aware ? i * d_ : 0);
                    uint8_t* kept = &codes_[(begin + i) * M_];
                    const uint8_t* fresh = &codes[i * M_];
                    if (aware) {
                        losses[tile] += keep_better(begin + i, xi, ui, fresh);
                    } else {
                        std::copy_n(fresh, M_, kept);
                    }
                    sums[tile].add_row(xi, ui, kept);
                }
            }
        });
        loss_ = 0;
        for (size_t tile = 0; tile < ntiles(); tile++) {
            loss_ += losses[tile];
            if (tile > 0) {
                sums[0].add(sums[tile]);
            }
        }
        return std::move(sums[0]);
    }

    /// @param parallel  out
    double loss_of_row(
            const float* x,
            const float* u,
            const uint8_t* codes,
            double& parallel) const {
        const float* codebook = codebook_.data();
        double error2 = 0;
        parallel = 0;
        for (size_t m = 0; m < M_; m++) {
            for (size_t i = offsets_[m]; i < offsets_[m + 1]; i++) {
                double e = double(x[i]) - codebook[i * kCodewords + codes[m]];
                error2 += e * e;
                parallel += e * u[i];
            }
        }
        return error2 + (eta_ - 1.0) * parallel * parallel;
    }

    double keep_better(
            size_t i,
            const float* x,
            const float* u,
            const uint8_t* fresh) {
        uint8_t* kept = &codes_[i * M_];
        double parallel;
        double loss = loss_of_row(x, u, fresh, parallel);
        if (coded_ && !std::equal(fresh, fresh + M_, kept)) {
            double old_parallel;
            double old_loss = loss_of_row(x, u, kept, old_parallel);
            if (old_loss < loss) {
                parallel_[i] = old_parallel;
                return old_loss;
            }
        }
        std::copy_n(fresh, M_, kept);
        parallel_[i] = parallel;
        return loss;
    }

    double loss_of_codes() const {
        std::vector<double> losses(ntiles());
        for_tiles(ntiles(), [&](size_t tile) {
            size_t end = std::min(rows_.size(), (tile + 1) * kSumRows);
            for (size_t i = tile * kSumRows; i < end; i++) {
                double parallel;
                losses[tile] += loss_of_row(
                        residual(i), direction(i), &codes_[i * M_], parallel);
            }
        });
        double sum = 0;
        for (double loss : losses) {
            sum += loss;
        }
        return sum;
    }

    /// A codeword that no row uses becomes a random row's residual.
    void reseed(size_t m, size_t j) {
        const float* row = residual(random_() % rows_.size());
        for (size_t i = offsets_[m]; i < offsets_[m + 1]; i++) {
            codebook_.mutable_data()[i * kCodewords + j] = row[i];
        }
    }

    void take_means(const CodewordSums& sums) {
        float* codebook = codebook_.mutable_data();
        for (size_t m = 0; m < M_; m++) {
            for (size_t j = 0; j < kCodewords; j++) {
                const double* sum = sums.of(m, j);
                if (sum[0] == 0) {
                    reseed(m, j);
                    continue;
                }
                for (size_t i = 0; i < sums.width(m); i++) {
                    codebook[(offsets_[m] + i) * kCodewords + j] =
                            float(sum[1 + i] / sum[0]);
                }
            }
        }
    }

    /** Moves the codewords of one block after the other to the minimum of the
     * loss for fixed codes. With P the parallel error of a row, all blocks:
     *
     *   (N I + (eta-1) sum u u^T) c
     *       = sum rho + (eta-1) (sum u P + (sum u u^T) c_old)
     *
     * Each block uses the P that follows from the blocks before it. A block
     * takes about 0.2 ms: waiting for threads at each one costs more than they
     * save.
     */
    void move_codewords(const CodewordSums& sums) {
        const size_t n = rows_.size();
        std::vector<float> u(n * kGatherDims);       // [block][row][width]
        std::vector<uint8_t> codes(n * kGatherDims); // [block][row]
        for (size_t first = 0, end; first < M_; first = end) {
            uint32_t begin = offsets_[first];
            for (end = first + 1;
                 end < M_ && offsets_[end + 1] - begin <= kGatherDims;) {
                end++;
            }
            for_tiles(ntiles(), [&](size_t tile) {
                size_t stop = std::min(n, (tile + 1) * kSumRows);
                for (size_t i = tile * kSumRows; i < stop; i++) {
                    for (size_t m = first; m < end; m++) {
                        size_t w = sums.width(m);
                        const float* from = direction(i) + offsets_[m];
                        float* to = &u[(offsets_[m] - begin) * n + i * w];
                        std::copy(from, from + w, to);
                        codes[(m - first) * n + i] = codes_[i * M_ + m];
                    }
                }
            });
            for (size_t m = first; m < end; m++) {
                move_block(
                        m,
                        &u[(offsets_[m] - begin) * n],
                        &codes[(m - first) * n],
                        sums);
            }
        }
    }

    void move_block(
            size_t m,
            const float* u,
            const uint8_t* codes,
            const CodewordSums& sums) {
        size_t w = sums.width(m);
        double weight = eta_ - 1.0;
        double products[kCodewords * kMaxBlockWidth] = {}; // sum u P
        for (size_t i = 0; i < rows_.size(); i++) {
            for (size_t a = 0; a < w; a++) {
                products[codes[i] * w + a] += u[i * w + a] * parallel_[i];
            }
        }
        float* codebook = codebook_.mutable_data() + offsets_[m] * kCodewords;
        double moved[kCodewords * kMaxBlockWidth] = {}; // c - c_old
        for (size_t j = 0; j < kCodewords; j++) {
            const double* sum = sums.of(m, j);
            if (sum[0] == 0) {
                reseed(m, j);
                continue;
            }
            const double* uu = sum + 1 + w; // lower triangle
            double matrix[kMaxBlockWidth * kMaxBlockWidth];
            double c[kMaxBlockWidth];
            for (size_t i = 0; i < w; i++) {
                c[i] = sum[1 + i] + weight * products[j * w + i];
            }
            for (size_t i = 0; i < w; i++) {
                for (size_t k = 0; k <= i; k++, uu++) {
                    matrix[i * w + k] = weight * *uu + (i == k ? sum[0] : 0);
                    c[i] += weight * *uu * codebook[k * kCodewords + j];
                    c[k] += i == k ? 0
                                   : weight * *uu *
                                             codebook[i * kCodewords + j];
                }
            }
            solve(w, matrix, c);
            for (size_t i = 0; i < w; i++) {
                float& value = codebook[i * kCodewords + j];
                moved[j * w + i] = double(float(c[i])) - value;
                value = float(c[i]);
            }
        }
        for (size_t i = 0; i < rows_.size(); i++) {
            for (size_t a = 0; a < w; a++) {
                parallel_[i] -= moved[codes[i] * w + a] * u[i * w + a];
            }
        }
    }

    const std::vector<uint32_t>& offsets_;
    size_t M_;
    size_t d_;
    float eta_;
    const float* residuals_;
    const float* directions_;
    AlignedBuffer<float> codebook_;
    std::mt19937_64 random_;
    std::vector<size_t> rows_;     ///< training rows, as numbers of input rows
    bool coded_ = false;           ///< rows have codes of an aware round
    std::vector<uint8_t> codes_;   ///< size rows_ * M
    std::vector<double> parallel_; ///< <e, u> of each row
    double loss_ = 0;              ///< sum over the rows
};

} // namespace

AlignedBuffer<float> train_codebook(
        const std::vector<uint32_t>& offsets,
        size_t n,
        const float* residuals,
        const float* directions,
        const ScoreAwarePQTraining& training) {
    const size_t d = offsets.back();
    FAISS_THROW_IF_NOT_FMT(
            training.eta >= 1 && std::isfinite(training.eta),
            "eta is %g (allowed: finite values of at least 1)",
            training.eta);
    FAISS_THROW_IF_NOT_MSG(
            training.eta == 1 || directions != nullptr,
            "eta above 1 needs directions");
    FAISS_THROW_IF_NOT_FMT(
            n >= 1 && training.max_points >= 1,
            "%zd training rows, at most %zd used (allowed: at least 1)",
            n,
            training.max_points);
    bool aware = training.eta > 1;
    for_tiles((n + kSumRows - 1) / kSumRows, [&](size_t tile) {
        size_t begin = tile * kSumRows;
        size_t values = (std::min(n, begin + kSumRows) - begin) * d;
        FAISS_THROW_IF_NOT_MSG(
                all_finite(values, residuals + begin * d) &&
                        (!aware || all_finite(values, directions + begin * d)),
                "a training row has a NaN or infinite value");
    });
    Trainer trainer(offsets, n, residuals, directions, training);
    return trainer.run(training);
}

} // namespace faiss_ext
