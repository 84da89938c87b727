#include <faiss_ext/index/train_codes.h>

#include <algorithm>
#include <cfloat>
#include <utility>

#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/codes/score_aware_loss.h>
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

/// What codebook and term learn from, in the space of the codes.
struct RotatedSample {
    std::vector<float> rows;       ///< size n * d
    std::vector<float> residuals;  ///< size n * d
    std::vector<float> directions; ///< size n * pq.d(): dimensions with codes

    /// @param memory  of size n * d, for the residuals
    RotatedSample(
            const IndexState& state,
            const ScaNNModel& model,
            const Sample& sample,
            std::vector<float> memory)
            : rows(memory.size()),
              residuals(std::move(memory)),
              directions(sample.size() * model.pq.d()) {
        const size_t d = state.d();
        const size_t coded = model.pq.d();
        std::vector<float> all(std::min(kCodeTileRows, sample.size()) * d);
        const EntryLayout layout = entry_layout(state);
        const EntryCodec codec{layout, model, state.keeps_rows()};
        sample.by_tiles([&](size_t begin, size_t n, const float* tile) {
            codec.rotate(
                    n,
                    tile,
                    sample.centroids_of_tile(begin, n).data(),
                    &rows[begin * d],
                    &residuals[begin * d],
                    all.data());
            leading_columns(
                    n, d, coded, all.data(), &directions[begin * coded]);
        });
    }
};

/// Blocks of half of the dimensions, for as many codes of at least
/// kWideBlock dimensions; else none.
std::vector<uint32_t>
half_blocks(size_t d, const ScaNNOptions& options, const ScoreAwarePQ& pq) {
    constexpr size_t kMinDimensions = 512;
    constexpr size_t kWideBlock = 6;
    const bool wide = d >= kMinDimensions && d >= kWideBlock * pq.M();
    return options.coded_dims == 0 && wide ? even_block_offsets(d / 2, pq.M())
                                           : std::vector<uint32_t>();
}

/// Rotation of the codes, and the dimensions that have codes.
void train_rotation(
        const IndexState& state,
        size_t n,
        const float* residuals,
        ScaNNModel& made) {
    const ScaNNOptions& options = state.options;
    const std::vector<uint32_t> fewer =
            half_blocks(state.d(), options, made.pq);
    const bool take_fewer = made.rotation.train(
            options.rotation,
            n,
            state.d(),
            residuals,
            made.pq.offsets(),
            options.seed,
            fewer);
    if (take_fewer) {
        made.pq = ScoreAwarePQ(fewer);
    }
}

void train_codebook(
        const RotatedSample& sample,
        size_t n,
        size_t d,
        const ScoreAwarePQTraining& training,
        ScoreAwarePQ& pq) {
    const float* residuals = sample.residuals.data();
    std::vector<float> coded;
    if (pq.d() < d) {
        coded.resize(n * pq.d());
        leading_columns(n, d, pq.d(), residuals, coded.data());
        residuals = coded.data();
    }
    pq.train(n, residuals, sample.directions.data(), training);
}

/// Of the codes of all rows. Directions are lost.
/// @return  ModelFit::code_error
float train_term(
        const IndexState& state,
        RotatedSample& sample,
        size_t n,
        ScaNNModel& model) {
    const EntryLayout layout = entry_layout(state);
    const EntryCodec codec{layout, model, state.keeps_rows()};
    std::vector<uint8_t> codes(n * layout.M);
    float* directions = sample.directions.data();
    std::vector<float> decoded = model.pq.d() == layout.d
                                         ? std::move(sample.directions)
                                         : std::vector<float>(n * layout.d);
    codec.encode_residuals(
            n,
            sample.residuals.data(),
            directions,
            codes.data(),
            decoded.data());
    model.score_term.train(
            n,
            layout.d,
            sample.rows.data(),
            sample.residuals.data(),
            decoded.data(),
            state.options.seed);
    return float(mean_lost_share(
            n, layout.d, sample.residuals.data(), decoded.data()));
}

} // namespace

TrainedCodes train_codes(
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
    made.by_direction = state.model->by_direction;
    made.pq = ScoreAwarePQ(state.model->pq.offsets());
    made.score_term.metric = state.ivf.metric_type;
    if (state.is_l2()) {
        made.origin = sample.origin();
    }
    std::vector<float> residuals = sample.residuals();
    if (rotation_pays(options.rotation, n, d)) {
        shorten_longest(count, d, longest, residuals.data());
        train_rotation(state, count, residuals.data(), made);
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
    train_codebook(rotated, count, d, training, made.pq);
    long_rows.restore(d, rotated.residuals.data());
    const float code_error = train_term(state, rotated, count, made);
    return {std::move(made), code_error};
}

} // namespace faiss_ext
