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
/// Residuals longer than so many times the median are shortened to that before
/// rotation and codebook see them, or few rows decide what all codes can say.
/// Where codes are all that tells rows apart, and the longest are the answers
/// (inner product), these have more to say.
constexpr float kLongestResidual = 3;
constexpr float kLongestAnswer = 30;

/// Shortens rows that are more than `most` times as long as the median.
void shorten_longest(size_t n, size_t d, float most, float* rows) {
    const std::vector<float> lengths = row_lengths(n, d, rows);
    const float median = quantile(lengths, 0.5);
    // where most rows are equal to their centroids, those of the others
    const float typical = median > 0 ? median : quantile(lengths, 0.9);
    const float longest = most * typical;
    for (size_t i = 0; i < n && longest > 0; i++) {
        for (size_t j = 0; j < d && lengths[i] > longest; j++) {
            rows[i * d + j] *= longest / lengths[i];
        }
    }
}

/// Some of the training rows, and their residuals.
struct Sample {
    size_t n = 0;
    std::vector<float> rows;      ///< size n * d, as the others
    std::vector<float> centroids; ///< of the rows' lists
    std::vector<float> residuals;

    Sample(const IndexState& state, size_t all, const float* x) {
        const size_t d = state.d();
        const std::vector<size_t> chosen =
                sample_rows(all, kCodeTrainingRows, state.options.seed);
        n = chosen.size();
        rows.resize(n * d);
        gather_rows(n, chosen.data(), d, x, rows.data());
        std::vector<int64_t> lists(n);
        assign_lists(state, n, rows.data(), lists.data());
        centroids = centroids_of(state, n, lists.data());
        residuals.resize(n * d);
        for (size_t i = 0; i < n * d; i++) {
            residuals[i] =
                    std::clamp(rows[i] - centroids[i], -FLT_MAX, FLT_MAX);
        }
    }
};

/// What codebook and term learn from, in the space of the codes.
struct RotatedSample {
    std::vector<float> rows; ///< size n * d, as the others
    std::vector<float> residuals;
    std::vector<float> directions;

    RotatedSample(
            const IndexState& state,
            const ScaNNModel& model,
            Sample sample)
            : rows(sample.rows.size()),
              residuals(std::move(sample.residuals)),
              directions(sample.rows.size()) {
        const EntryLayout layout = entry_layout(state);
        const EntryCodec codec{layout, model, state.keeps_rows()};
        codec.rotate(
                sample.n,
                sample.rows.data(),
                sample.centroids.data(),
                rows.data(),
                residuals.data(),
                directions.data());
    }
};

void train_pq(
        const RotatedSample& sample,
        size_t n,
        float longest,
        const ScoreAwarePQTraining& training,
        ScoreAwarePQ& pq) {
    std::vector<float> shortened = sample.residuals;
    shorten_longest(n, pq.d(), longest, shortened.data());
    pq.train(n, shortened.data(), sample.directions.data(), training);
}

void train_term(
        const RotatedSample& sample,
        size_t n,
        uint64_t seed,
        ScaNNModel& model) {
    const ScoreAwarePQ& pq = model.pq;
    std::vector<uint8_t> codes(n * pq.M());
    std::vector<float> decoded(n * pq.d());
    pq.encode(
            n, sample.residuals.data(), sample.directions.data(), codes.data());
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
        const ScaNNProgress& progress) {
    const ScaNNOptions& options = state.options;
    const size_t d = state.d();
    const float longest = state.is_l2() || state.keeps_rows() ? kLongestResidual
                                                              : kLongestAnswer;
    Sample sample(state, n, x);
    shorten_longest(sample.n, d, longest, sample.residuals.data());

    ScaNNModel made;
    made.list_spread = std::move(list_spread);
    made.by_direction = state.model.by_direction;
    made.pq = ScoreAwarePQ(state.model.pq.offsets());
    made.score_term.metric = state.ivf.metric_type;
    if (state.is_l2()) {
        made.origin =
                dimension_medians(sample.n, d, sample.rows.data(), kOriginRows);
    }
    if (rotation_pays(options.rotation, n, d)) {
        made.rotation.train(
                options.rotation,
                sample.n,
                d,
                sample.residuals.data(),
                made.pq.offsets(),
                options.seed);
    } else {
        made.rotation.set_matrix(d, {});
    }
    const size_t count = sample.n;
    const RotatedSample rotated(state, made, std::move(sample));
    ScoreAwarePQTraining training;
    training.eta = eta;
    training.seed = options.seed;
    if (progress) {
        training.on_round = [&](size_t done, size_t total) {
            progress("codebook", done, total);
        };
    }
    train_pq(rotated, count, longest, training, made.pq);
    train_term(rotated, count, options.seed, made);
    return made;
}

} // namespace faiss_ext
