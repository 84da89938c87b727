#include <faiss_ext/partition/nearest.h>

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <functional>
#include <vector>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/partition/length_of.h>
#include <faiss_ext/partition/list_groups.h>
#include <faiss_ext/partition/panels.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/memory/row_sample.h>

namespace faiss_ext {

namespace {

/// Rows whose scores are computed together: their scores with a thousand rows
/// stay in a second-level cache.
constexpr size_t kScoreTile = 32;
/// Standard deviations: two scores may each be off by three.
constexpr float kMargin = 6;
/// Rows whose exact losses give an upper bound of the least loss.
constexpr size_t kBoundRows = 8;
/// One exact loss takes the time of so many products of a tile.
constexpr size_t kExactCost = 64;
/// Of the rows, at least one in so many is looked at through groups.
constexpr size_t kGroupedShare = 16;
/// Their groups are looked at together.
constexpr size_t kGroupedTile = 16;
/// Rows whose median is center().
constexpr size_t kMedianRows = 64;

float distance(size_t d, const float* a, const float* b) {
    return std::sqrt(quick_distance(d, a, b));
}

/// Weights for BytePanels, from the mean squares of the dimensions of the rows,
/// scaled to unit length.
std::vector<float> dimension_weights(size_t n, size_t d, const float* rows) {
    std::vector<double> shares(d);
    for (size_t j = 0; j < n; j++) {
        const float* row = rows + j * d;
        const double square = precise_square(d, row);
        for (size_t i = 0; i < d && square > 0; i++) {
            shares[i] += double(row[i]) * row[i] / square;
        }
    }
    return balanced_weights(shares);
}

} // namespace

/// Buffers of a thread, kept so that searches do not allocate.
struct NearestRows::Scratch {
    ByteQueries queries;
    // scores of a tile of x with all rows, or of one x with those of groups
    float* tile = nullptr; ///< size (x in the tile) * stride
    size_t stride = 0;
    size_t query = 0;                  ///< of the first x of the tile
    size_t count = 0;                  ///< rows that each x is scored with
    const uint32_t* numbers = nullptr; ///< of these rows; nullptr: 0, 1, ...
    AlignedBuffer<float> scores;
    ListGroups::Tile groups;
    std::vector<uint32_t> lists; ///< numbers of the rows of groups
    ByteQueries along_queries;
    AlignedBuffer<float> along_scores;
    AlignedBuffer<float> directions; ///< r / ||r|| of each, or 0
    std::vector<uint64_t> keys;
    std::vector<uint64_t> best;
    std::vector<const void*> close; ///< rows that may be the nearest
    std::vector<float> units;       ///< these, scaled
    std::vector<float> distances;   ///< squared, of these; or losses
    std::vector<float> along;
};

NearestRows::Scratch& NearestRows::scratch() {
    thread_local Scratch kept;
    return kept;
}

NearestRows::NearestRows(
        size_t n,
        size_t d,
        const float* rows,
        bool borrow,
        bool unit)
        : d_(d), rows_(AlignedBuffer<float>::borrow(rows, n * d)) {
    if (!borrow) {
        rows_.mutable_data(); // copies
    }
    std::vector<float> units;
    if (unit) {
        units.assign(rows, rows + n * d);
        scale_to_unit(n, d, units.data());
        scales_.resize(n);
        for (size_t j = 0; j < n; j++) {
            const double square = precise_square(d, rows + j * d);
            scales_[j] = square > 0 ? 1 / std::sqrt(square) : 0;
        }
        rows = units.data();
    }
    center_ = dimension_medians(n, d, rows, kMedianRows);
    std::vector<float> shifted(n * d);
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < d; i++) {
            float value = rows[j * d + i] - center_[i];
            shifted[j * d + i] = std::clamp(value, -FLT_MAX, FLT_MAX);
        }
    }
    bytes_ = BytePanels(
            n, d, shifted.data(), dimension_weights(n, d, shifted.data()));
    terms_.resize(bytes_.padded());
    for (size_t j = 0; j < n; j++) {
        const float* row = shifted.data() + j * d;
        double norm2 = precise_square(d, row);
        terms_.mutable_data()[j] =
                float(std::max(-norm2 / 2, -double(FLT_MAX)));
    }
}

size_t NearestRows::memory_usage() const {
    return rows_.allocated_bytes() + terms_.allocated_bytes() +
           center_.size() * sizeof(float) + scales_.size() * sizeof(double) +
           bytes_.memory_usage() +
           (groups_ == nullptr ? 0 : groups_->memory_usage());
}

size_t NearestRows::estimate_memory(size_t n, size_t d, bool borrow) {
    size_t floats = (borrow ? 0 : n * d) + d + round_up(n, kernels::kPanel);
    return floats * sizeof(float) + BytePanels::estimate_memory(n, d);
}

/// ||x - row||^2 + lambda <x - row, r>^2 of the rows s.close, into s.distances.
/// @return where the least is
size_t NearestRows::least_loss(
        const float* x,
        const float* r,
        float lambda,
        Scratch& s) const {
    const kernels::Kernels& kernels = active_kernels();
    const size_t count = s.close.size();
    s.distances.resize(count);
    s.along.resize(count);
    kernels.float_rows_l2({s.close.data(), count, d_, x, s.distances.data()});
    if (lambda > 0) {
        kernels.float_rows_dot({s.close.data(), count, d_, r, s.along.data()});
        const float along = quick_dot(d_, x, r);
        for (size_t c = 0; c < count; c++) {
            float parallel = along - s.along[c];
            s.distances[c] += lambda * parallel * parallel;
        }
    }
    return std::min_element(s.distances.begin(), s.distances.end()) -
           s.distances.begin();
}

void NearestRows::copy_row(size_t j, float* out) const {
    for (size_t i = 0; i < d_; i++) {
        out[i] = scales_.empty() ? row(j)[i] : float(row(j)[i] * scales_[j]);
    }
}

void NearestRows::use_groups(const std::vector<uint32_t>& group_of) {
    groups_ = std::make_shared<const ListGroups>(*this, nullptr, group_of);
}

size_t NearestRows::groups() const {
    return groups_->size();
}

void NearestRows::find_groups(size_t n, const float* x, int64_t* group_of)
        const {
    Scratch& s = scratch();
    s.queries.set(bytes_, n, x, center());
    groups_->best_group(s.queries, s.scores, group_of);
}

/// Makes s.close the rows of the keys, which then name rows, not places.
void NearestRows::rows_of_keys(uint64_t* keys, size_t count, Scratch& s) const {
    if (s.numbers != nullptr) {
        number_keys(keys, count, s.numbers);
    }
    s.close.resize(count);
    for (size_t i = 0; i < count; i++) {
        s.close[i] = row(uint32_t(~keys[i]));
    }
    if (!scales_.empty()) {
        s.units.resize(count * d_);
        for (size_t i = 0; i < count; i++) {
            float* scaled = s.units.data() + i * d_;
            copy_row(uint32_t(~keys[i]), scaled);
            s.close[i] = scaled;
        }
    }
}

/// Makes s.close the rows, of s.keys, with scores near the largest.
void NearestRows::find_close(const float* scores, float margin, Scratch& s)
        const {
    margin = margin < FLT_MAX ? margin : FLT_MAX; // NaN too
    s.keys.resize(s.count + kernels::kScanSlack);
    size_t count = active_kernels().select_near_best(
            {scores, s.count, margin, s.keys.data()});
    rows_of_keys(s.keys.data(), count, s);
}

/// The same for each x alone, with its scores with the rows of groups.
template <class Each>
void NearestRows::for_grouped_tiles(size_t n, const float* x, Each&& each)
        const {
    Scratch& s = scratch();
    const size_t wanted = size() / kGroupedShare + 1;
    for (size_t begin = 0; begin < n; begin += kGroupedTile) {
        const size_t count = std::min(kGroupedTile, n - begin);
        s.queries.set(bytes_, count, x + begin * d_, center());
        groups_->score_tile(s.queries, wanted, s.groups);
        for (s.query = 0; s.query < count; s.query++) {
            s.count = groups_->scores_of(s.query, s.groups, s.scores, s.lists);
            s.tile = s.scores.mutable_data();
            s.numbers = s.lists.data();
            const size_t i = begin + s.query;
            each(i, size_t(1), x + i * d_, s);
        }
    }
}

/// Calls each(begin, size, tile, scratch) for tiles of x, at most kScoreTile
/// rows, when scratch holds their scores.
template <class Each>
void NearestRows::for_scored_tiles(size_t n, const float* x, Each&& each)
        const {
    Scratch& s = scratch();
    s.query = 0;
    if (groups_ != nullptr) {
        for_grouped_tiles(n, x, each);
        return;
    }
    s.count = size();
    s.stride = bytes_.padded();
    s.numbers = nullptr;
    for (size_t begin = 0; begin < n; begin += kScoreTile) {
        const size_t size = std::min(kScoreTile, n - begin);
        const float* tile = x + begin * d_;
        s.queries.set(bytes_, size, tile, center());
        s.scores.resize(size * bytes_.padded());
        bytes_.scores(
                active_kernels(),
                s.queries,
                {.terms = terms()},
                s.scores.mutable_data());
        s.tile = s.scores.mutable_data();
        each(begin, size, tile, s);
    }
}

/// Standard deviation of the scores that row i of a tile has with rows near it.
float NearestRows::score_error(size_t i, const Scratch& s) const {
    const size_t query = s.query + i;
    return bytes_.error(s.queries, query, bytes_.length_near(s.queries, query));
}

void NearestRows::nearest_of_tile(
        size_t n,
        const float* x,
        int64_t* nearest,
        Scratch& s) const {
    for (size_t i = 0; i < n; i++, x += d_) {
        if (!all_finite(d_, x)) {
            nearest[i] = -1;
            continue;
        }
        find_close(s.tile + i * s.stride, kMargin * score_error(i, s), s);
        size_t best = s.close.size() > 1 ? least_loss(x, nullptr, 0, s) : 0;
        nearest[i] = uint32_t(~s.keys[best]);
    }
}

/** Makes s.close the rows, of s.keys, that may have the least loss: those whose
 * distance alone is not above a known loss, first that of the primary row, then
 * the least of the nearest few.
 * @param length  ||x - primary||
 * @return false if they are too many to score one by one */
bool NearestRows::select_by_loss(
        const float* x,
        const float* r,
        float length,
        float lambda,
        const float* scores,
        float error,
        Scratch& s) const {
    const float half = quick_distance(d_, x, center()) / 2;
    // lowest score that rounding may give a row at this squared distance
    auto least_score = [&](float loss) {
        float score = half - loss / 2 - kMargin / 2 * error;
        return score > -FLT_MAX ? score : -FLT_MAX; // NaN too
    };
    s.keys.resize(s.count + kernels::kScanSlack);
    size_t count = active_kernels().select_at_least(
            {scores,
             s.count,
             least_score((1 + lambda) * length * length),
             s.keys.data()});
    if (count * kExactCost > kBoundRows * s.count) {
        return false; // the next bound would leave too many, too
    }
    if (count > 2 * kBoundRows) {
        s.best.assign(s.keys.begin(), s.keys.begin() + count);
        std::nth_element(
                s.best.begin(),
                s.best.begin() + kBoundRows,
                s.best.end(),
                std::greater<>());
        rows_of_keys(s.best.data(), kBoundRows, s);
        float bound = least_score(s.distances[least_loss(x, r, lambda, s)]);
        count = std::remove_if(
                        s.keys.begin(),
                        s.keys.begin() + count,
                        [&](uint64_t key) {
                            return scores[uint32_t(~key)] < bound;
                        }) -
                s.keys.begin();
    }
    rows_of_keys(s.keys.data(), count, s);
    return count > 0 && count * kExactCost <= s.count;
}

/// The row among s.close with the least loss, unless it is the primary one.
int64_t NearestRows::choose_spilled(
        const float* x,
        const float* r,
        int64_t primary,
        float lambda,
        Scratch& s) const {
    const size_t best = least_loss(x, r, lambda, s);
    const int64_t found = uint32_t(~s.keys[best]);
    return found == primary ? -1 : found;
}

/** Rows of a tile whose spilled copies are found by the scores of all rows:
 * the direction of each residual has a product with every row. */
struct NearestRows::UndecidedRows {
    /// of one row of x
    struct Row {
        size_t number;     ///< in the tile
        float length;      ///< ||r||
        float length_near; ///< of rows near x
        float error;       ///< of its scores
    };
    std::array<Row, kScoreTile> rows;
    size_t count = 0;
};

void NearestRows::spilled_by_scores(
        const UndecidedRows& undecided,
        const float* x,
        const int64_t* primary,
        float lambda,
        int64_t* spilled,
        Scratch& s) const {
    const float* directions = s.directions.data();
    s.along_queries.set(bytes_, undecided.count, directions, nullptr);
    if (groups_ != nullptr) {
        groups_->products(
                s.along_queries, s.groups.groups[s.query], s.along_scores);
    } else {
        s.along_scores.resize(undecided.count * s.stride);
        bytes_.scores(
                active_kernels(),
                s.along_queries,
                {},
                s.along_scores.mutable_data());
    }
    for (size_t l = 0; l < undecided.count; l++) {
        const UndecidedRows::Row& row = undecided.rows[l];
        const size_t i = row.number;
        const float* r = directions + l * d_;
        // less the center's part, which the scores are without
        const float along =
                quick_dot(d_, x + i * d_, r) - quick_dot(d_, center(), r);
        float* scores = s.tile + i * s.stride;
        const float* towards = s.along_scores.data() + l * s.stride;
        for (size_t j = 0; j < s.count; j++) {
            float parallel = along - towards[j];
            float score = scores[j] - lambda / 2 * parallel * parallel;
            scores[j] = score > -FLT_MAX ? score : -FLT_MAX; // NaN too
        }
        float error = lambda * row.length *
                      bytes_.error(s.along_queries, l, row.length_near);
        find_close(scores, kMargin * length_of(row.error, error), s);
        spilled[i] = choose_spilled(x + i * d_, r, primary[i], lambda, s);
    }
}

void NearestRows::spilled_of_tile(
        size_t n,
        const float* x,
        const int64_t* primary,
        float lambda,
        int64_t* spilled,
        Scratch& s) const {
    s.directions.resize(n * d_);
    float* directions = s.directions.mutable_data();
    UndecidedRows undecided;
    for (size_t i = 0; i < n; i++) {
        const float* at = x + i * d_;
        // the place is used again if this row is decided here
        float* r = directions + undecided.count * d_;
        spilled[i] = -1;
        if (primary[i] < 0) {
            continue;
        }
        const float* first = row(primary[i]);
        const float length = distance(d_, first, at);
        for (size_t a = 0; a < d_; a++) {
            r[a] = length > 0 ? (at[a] - first[a]) / length : 0;
        }
        const float near = bytes_.length_near(s.queries, s.query + i);
        const float error = bytes_.error(s.queries, s.query + i, near);
        const float* scores = s.tile + i * s.stride;
        if (select_by_loss(at, r, length, lambda, scores, error, s)) {
            spilled[i] = choose_spilled(at, r, primary[i], lambda, s);
        } else {
            undecided.rows[undecided.count++] = {i, length, near, error};
        }
    }
    if (undecided.count > 0) {
        spilled_by_scores(undecided, x, primary, lambda, spilled, s);
    }
}

void NearestRows::find(size_t n, const float* x, int64_t* nearest) const {
    for_scored_tiles(n, x, [&](size_t begin, size_t size, auto* tile, auto& s) {
        nearest_of_tile(size, tile, nearest + begin, s);
    });
}

void NearestRows::find_spilled(
        size_t n,
        const float* x,
        const int64_t* primary,
        float lambda,
        int64_t* spilled) const {
    for_scored_tiles(n, x, [&](size_t begin, size_t size, auto* tile, auto& s) {
        spilled_of_tile(
                size, tile, primary + begin, lambda, spilled + begin, s);
    });
}

void NearestRows::find_both(
        size_t n,
        const float* x,
        float lambda,
        int64_t* nearest,
        int64_t* spilled) const {
    for_scored_tiles(n, x, [&](size_t begin, size_t size, auto* tile, auto& s) {
        nearest_of_tile(size, tile, nearest + begin, s);
        spilled_of_tile(
                size, tile, nearest + begin, lambda, spilled + begin, s);
    });
}

} // namespace faiss_ext
