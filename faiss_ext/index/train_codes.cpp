#include <faiss_ext/index/train_codes.h>

#include <algorithm>
#include <cfloat>
#include <utility>

#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/model/codec.h>
#include <faiss_ext/model/defaults.h>

namespace faiss_ext {

namespace {

/// Rows that the rotation and the term learn from.
constexpr size_t kCodeTrainingRows = 32768;
/// Rows coded together: all of them at once would take much memory.
constexpr size_t kCodeTileRows = 1024;
/// Rotation and codebook learn from residuals that are shortened to this many
/// times the median length, since otherwise a few long ones would determine all
/// codewords. For inner product the longest rows are the results of most
/// queries: where only codes are kept, they may be longer.
constexpr float kLongestResidual = 3;
constexpr float kLongestResultResidual = 30;

/// Rows that were shortened, as they were before.
struct LongRows {
    std::vector<size_t> rows;
    std::vector<float> values;

    void restore(size_t d, float* to) const {
        for (size_t i = 0; i < rows.size(); i++) {
            std::copy_n(&values[i * d], d, to + rows[i] * d);
        }
    }
};

/// Shortens rows that are more than `most` times as long as the median.
LongRows shorten_longest(size_t n, size_t d, float most, float* rows) {
    const std::vector<float> lengths = row_lengths(n, d, rows);
    const float median = quantile(lengths, 0.5);
    // if most rows equal their centroids, a length of the others
    const float typical = median > 0 ? median : quantile(lengths, 0.9);
    const float longest = most * typical;
    LongRows before;
    for (size_t i = 0; i < n && longest > 0; i++) {
        float* row = rows + i * d;
        if (lengths[i] > longest) {
            before.rows.push_back(i);
            before.values.insert(before.values.end(), row, row + d);
            for (size_t j = 0; j < d; j++) {
                row[j] *= longest / lengths[i];
            }
        }
    }
    return before;
}

/// Some of the training rows, gathered a tile at a time.
class Sample {
 public:
    /// @param lists  size n, or nullptr: found by the partition
    Sample(const IndexState& state,
           size_t n,
           const float* x,
           const int64_t* lists)
            : state_(state),
              x_(x),
              chosen_(sample_rows(n, kCodeTrainingRows, state.options.seed)),
              lists_(chosen_.size()),
              lists_given_(lists != nullptr) {
        for (size_t i = 0; lists_given_ && i < chosen_.size(); i++) {
            lists_[i] = lists[chosen_[i]];
        }
    }
    size_t size() const {
        return chosen_.size();
    }

    /// Medians of some of the rows, size d.
    std::vector<float> origin() const {
        const size_t d = state_.d();
        const size_t count = std::min(kOriginRows, size());
        std::vector<size_t> some(count);
        for (size_t i = 0; i < count; i++) {
            some[i] = chosen_[i * size() / count];
        }
        std::vector<float> rows(count * d);
        gather_rows(count, some.data(), d, x_, rows.data());
        return dimension_medians(count, d, rows.data(), count);
    }

    /// Of all rows, size() * d. Finds their lists, unless they were given.
    std::vector<float> residuals() {
        const size_t d = state_.d();
        std::vector<float> residuals(size() * d);
        by_tiles([&](size_t begin, size_t n, const float* rows) {
            if (!lists_given_) {
                assign_lists(state_, n, rows, &lists_[begin]);
            }
            const std::vector<float> centroids = centroids_of_tile(begin, n);
            for (size_t i = 0; i < n * d; i++) {
                residuals[begin * d + i] =
                        std::clamp(rows[i] - centroids[i], -FLT_MAX, FLT_MAX);
            }
        });
        return residuals;
    }

    /// Calls work(first, n, rows) for some rows at a time.
    template <class Work>
    void by_tiles(Work&& work) const {
        const size_t d = state_.d();
        std::vector<float> rows(std::min(kCodeTileRows, size()) * d);
        for (size_t begin = 0; begin < size(); begin += kCodeTileRows) {
            const size_t n = std::min(kCodeTileRows, size() - begin);
            gather_rows(n, &chosen_[begin], d, x_, rows.data());
            work(begin, n, rows.data());
        }
    }
    /// After residuals().
    std::vector<float> centroids_of_tile(size_t begin, size_t n) const {
        return centroids_of(state_, n, &lists_[begin]);
    }

 private:
    const IndexState& state_;
    const float* x_;
    std::vector<size_t> chosen_;
    std::vector<int64_t> lists_;
    bool lists_given_;
};

/// What codebook and term learn from, in the space of the codes: size n * d
/// each.
struct RotatedSample {
    std::vector<float> rows;
    std::vector<float> residuals;
    std::vector<float> directions;

    /// @param memory  of size n * d, for the residuals
    RotatedSample(
            const IndexState& state,
            const ScaNNModel& model,
            const Sample& sample,
            std::vector<float> memory)
            : rows(memory.size()),
              residuals(std::move(memory)),
              directions(rows.size()) {
        const size_t d = state.d();
        const EntryLayout layout = entry_layout(state);
        const EntryCodec codec{layout, model, state.keeps_rows()};
        sample.by_tiles([&](size_t begin, size_t n, const float* tile) {
            codec.rotate(
                    n,
                    tile,
                    sample.centroids_of_tile(begin, n).data(),
                    &rows[begin * d],
                    &residuals[begin * d],
                    &directions[begin * d]);
        });
    }
};

void train_term(
        RotatedSample& sample,
        size_t n,
        uint64_t seed,
        ScaNNModel& model) {
    const ScoreAwarePQ& pq = model.pq;
    std::vector<uint8_t> codes(n * pq.M());
    pq.encode(
            n, sample.residuals.data(), sample.directions.data(), codes.data());
    // not needed any more
    std::vector<float> decoded = std::move(sample.directions);
    pq.decode(n, codes.data(), decoded.data());
    model.score_term.train(
            n,
            pq.d(),
            sample.rows.data(),
            sample.residuals.data(),
            decoded.data(),
            seed);
}

} // namespace

ScaNNModel train_codes(
        const IndexState& state,
        size_t n,
        const float* x,
        float eta,
        std::vector<float> list_spread,
        const ScaNNProgress& progress,
        const int64_t* lists) {
    const ScaNNOptions& options = state.options;
    const size_t d = state.d();
    const float longest = state.is_l2() || state.keeps_rows()
                                  ? kLongestResidual
                                  : kLongestResultResidual;
    Sample sample(state, n, x, lists);
    const size_t count = sample.size();
    ScaNNModel made;
    made.list_spread = std::move(list_spread);
    made.by_direction = state.model.by_direction;
    made.pq = ScoreAwarePQ(state.model.pq.offsets());
    made.score_term.metric = state.ivf.metric_type;
    if (state.is_l2()) {
        made.origin = sample.origin();
    }
    std::vector<float> residuals = sample.residuals();
    if (rotation_pays(options.rotation, n, d)) {
        shorten_longest(count, d, longest, residuals.data());
        made.rotation.train(
                options.rotation,
                count,
                d,
                residuals.data(),
                made.pq.offsets(),
                options.seed);
    } else {
        made.rotation.set_matrix(d, {});
    }
    RotatedSample rotated(state, made, sample, std::move(residuals));
    ScoreAwarePQTraining training;
    training.eta = eta;
    training.seed = options.seed;
    if (progress) {
        training.on_round = [&](size_t done, size_t total) {
            progress("codebook", done, total);
        };
    }
    const LongRows long_rows =
            shorten_longest(count, d, longest, rotated.residuals.data());
    made.pq.train(
            count,
            rotated.residuals.data(),
            rotated.directions.data(),
            training);
    long_rows.restore(d, rotated.residuals.data());
    train_term(rotated, count, options.seed, made);
    return made;
}

} // namespace faiss_ext
