#include <faiss_ext/partition/kmeans.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>
#include <utility>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/partition/grouped_nearest.h>
#include <faiss_ext/partition/rows_by_list.h>
#include <faiss_ext/partition/nearest.h>
#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/memory/row_sample.h>

namespace faiss_ext {

namespace {

/// rows that a thread assigns to lists at a time
constexpr size_t kAssignTile = 128;
/// rows that a thread checks at a time
constexpr size_t kCheckTile = 4096;
/// lists whose centroids are computed in one tile
constexpr size_t kTileLists = 16;
/// rows per list that every round uses, if there are as many
constexpr size_t kMinRowsPerList = 32;
/// rounds over all lists that put right what the cells' borders have cost
constexpr size_t kLastRounds = 2;
/// by which part the centroids of a split list differ (as in Faiss)
constexpr float kNudge = 1 / 1024.f;

void check_finite(size_t n, size_t d, const float* x) {
    for_tiles((n + kCheckTile - 1) / kCheckTile, [&](size_t tile) {
        const size_t end = std::min(n, (tile + 1) * kCheckTile);
        for (size_t i = tile * kCheckTile; i < end; i++) {
            FAISS_THROW_IF_NOT_FMT(
                    all_finite(d, x + i * d),
                    "row %zd has a NaN or infinite value",
                    i);
        }
    });
}

/// Rows of the sample of m used in a round: 1 / 8 of it at first, all of it in
/// the last third of the rounds.
size_t rows_of_round(const KMeansParameters& p, size_t round, size_t m) {
    double done = double(round) / double(p.rounds);
    size_t share = done < 0.2 ? 8 : done < 0.4 ? 4 : done < 0.7 ? 2 : 1;
    return std::min(m, std::max(m / share, kMinRowsPerList * p.k));
}

/** Each empty list takes half of the list with the largest sum of squared
 * distances. Not of the list with the most rows: these may be copies of one
 * row, which cannot be divided. */
void split_largest(
        size_t d,
        const RowsByList& by_list,
        const std::vector<double>& distances,
        std::vector<float>& centroids) {
    size_t k = distances.size();
    // (sum, -list): among equals the first
    std::priority_queue<std::pair<double, int64_t>> largest;
    for (size_t l = 0; l < k; l++) {
        if (by_list.size(l) > 0) {
            largest.emplace(distances[l], -int64_t(l));
        }
    }
    for (size_t empty = 0; empty < k; empty++) {
        if (by_list.size(empty) > 0) {
            continue;
        }
        auto [distance, negated] = largest.top();
        largest.pop();
        float* from = centroids.data() + size_t(-negated) * d;
        float* to = centroids.data() + empty * d;
        for (size_t i = 0; i < d; i++) {
            float nudge = i % 2 == 0 ? kNudge : -kNudge;
            to[i] = from[i] * (1 + nudge);
            from[i] *= 1 - nudge;
        }
        largest.emplace(distance / 2, negated);
        largest.emplace(distance / 2, -int64_t(empty));
    }
}

void check_arguments(
        size_t n,
        size_t d,
        const float* x,
        const KMeansParameters& p) {
    FAISS_THROW_IF_NOT_FMT(
            p.k >= 1 && n >= p.k,
            "%zd training rows are too few for %zd lists",
            n,
            p.k);
    FAISS_THROW_IF_NOT_FMT(
            p.max_points_per_centroid >= 1,
            "max_points_per_centroid is %zd (allowed: at least 1)",
            p.max_points_per_centroid);
    check_finite(n, d, x);
}

/// Numbers of the training rows in random order, at most as many as the
/// parameters allow.
std::vector<size_t> draw_sample(size_t n, const KMeansParameters& p) {
    const size_t m = n / p.k < p.max_points_per_centroid
                             ? n
                             : p.k * p.max_points_per_centroid;
    return sample_rows(n, m, p.seed);
}

/// The list of each of the given rows, those with the nearest centroids.
void assign_rows(
        size_t n,
        const size_t* numbers,
        size_t d,
        const float* x,
        const KMeansParameters& p,
        const std::vector<float>& centroids,
        int64_t* lists) {
    if (GroupedNearest::pays(n, p.k)) {
        GroupedNearest(p.k, d, centroids.data(), p.spherical, p.seed)
                .find(n, x, lists, numbers);
        return;
    }
    const NearestRows nearest(p.k, d, centroids.data(), true);
    for_tiles((n + kAssignTile - 1) / kAssignTile, [&](size_t tile) {
        size_t begin = tile * kAssignTile;
        size_t size = std::min(kAssignTile, n - begin);
        std::vector<float> rows(size * d);
        gather_rows(size, numbers + begin, d, x, rows.data());
        if (p.spherical) { // lengths do not matter, and would cost digits
            scale_to_unit(size, d, rows.data());
        }
        nearest.find(size, rows.data(), lists + begin);
    });
}

/** Makes the centroid of each list that has rows their mean.
 * @param numbers    of the rows, as by_list counts them
 * @param centroids  in/out
 * @return  sum of squared distances of the rows of each list */
std::vector<double> set_to_means(
        const RowsByList& by_list,
        const std::vector<size_t>& numbers,
        size_t d,
        const float* x,
        const KMeansParameters& p,
        std::vector<float>& centroids) {
    std::vector<double> distances(p.k);
    for_tiles((p.k + kTileLists - 1) / kTileLists, [&](size_t tile) {
        std::vector<double> sum(d);
        std::vector<double> squares(d);
        size_t end = std::min(p.k, (tile + 1) * kTileLists);
        for (size_t l = tile * kTileLists; l < end; l++) {
            if (by_list.size(l) == 0) {
                continue;
            }
            std::fill(sum.begin(), sum.end(), 0.0);
            std::fill(squares.begin(), squares.end(), 0.0);
            for (size_t r = by_list.begin[l]; r < by_list.begin[l + 1]; r++) {
                const float* row = x + numbers[by_list.order[r]] * d;
                double scale = 1;
                if (p.spherical) { // directions, whatever the lengths
                    const double square = precise_square(d, row);
                    scale = square > 0 ? 1 / std::sqrt(square) : 0;
                }
                for (size_t i = 0; i < d; i++) {
                    const double value = scale * row[i];
                    sum[i] += value;
                    squares[i] += value * value;
                }
            }
            double size = double(by_list.size(l));
            for (size_t i = 0; i < d; i++) {
                centroids[l * d + i] = float(sum[i] / size);
                distances[l] += squares[i] - sum[i] * sum[i] / size;
            }
        }
    });
    return distances;
}

/// How many of `wanted` each cell gets: in proportion to its rows, but at most
/// one for each row. @param rows  of the cells; at least `wanted` in all
std::vector<size_t> shares_of(size_t wanted, const std::vector<size_t>& rows) {
    const size_t total = std::accumulate(rows.begin(), rows.end(), size_t(0));
    std::vector<size_t> shares(rows.size());
    size_t before = 0, given = 0;
    for (size_t c = 0; c < rows.size(); c++) {
        before += rows[c];
        const size_t upto = size_t(double(wanted) * double(before) / total);
        shares[c] = std::min(rows[c], upto - given);
        given += shares[c];
    }
    for (size_t c = 0; given < wanted; c = (c + 1) % rows.size()) {
        if (shares[c] < rows[c]) { // rounding
            shares[c]++;
            given++;
        }
    }
    return shares;
}

/** First centroids in two levels: k-means for sqrt(k) cells, then for the lists
 * of each cell. That is a hundredth of the work of comparing all rows with all
 * centroids. */
std::vector<float> centroids_in_levels(
        size_t n,
        size_t d,
        const float* x,
        const std::vector<size_t>& sample,
        const KMeansParameters& p) {
    KMeansParameters coarse;
    coarse.k = size_t(std::sqrt(double(p.k)));
    coarse.rounds = p.rounds;
    coarse.spherical = p.spherical;
    coarse.seed = p.seed;
    const std::vector<float> cells = kmeans(n, d, x, coarse);
    std::vector<int64_t> cell_of(sample.size());
    assign_rows(
            sample.size(), sample.data(), d, x, coarse, cells, cell_of.data());
    const RowsByList by_cell(coarse.k, sample.size(), cell_of.data());
    std::vector<size_t> sizes(coarse.k);
    for (size_t c = 0; c < coarse.k; c++) {
        sizes[c] = by_cell.size(c);
    }
    const std::vector<size_t> shares = shares_of(p.k, sizes);
    std::vector<size_t> first(coarse.k);
    std::exclusive_scan(shares.begin(), shares.end(), first.begin(), size_t(0));
    std::vector<float> centroids(p.k * d);
    for_tiles(coarse.k, [&](size_t c) {
        if (shares[c] == 0) {
            return;
        }
        std::vector<size_t> numbers(sizes[c]);
        for (size_t i = 0; i < sizes[c]; i++) {
            numbers[i] = sample[by_cell.order[by_cell.begin[c] + i]];
        }
        std::vector<float> of_cell(sizes[c] * d);
        gather_rows(sizes[c], numbers.data(), d, x, of_cell.data());
        KMeansParameters fine = coarse;
        fine.k = shares[c];
        fine.max_points_per_centroid = p.max_points_per_centroid;
        fine.seed = p.seed + c;
        const std::vector<float> some =
                kmeans(sizes[c], d, of_cell.data(), fine);
        std::copy(some.begin(), some.end(), &centroids[first[c] * d]);
    });
    return centroids;
}

} // namespace

std::vector<float>
kmeans(size_t n, size_t d, const float* x, const KMeansParameters& p) {
    check_arguments(n, d, x, p);
    const std::vector<size_t> sample = draw_sample(n, p);
    std::vector<float> centroids;
    size_t first = 0; // round
    if (GroupedNearest::pays(sample.size(), p.k) && p.rounds > kLastRounds) {
        if (p.on_round) {
            p.on_round(0, p.rounds);
        }
        centroids = centroids_in_levels(n, d, x, sample, p);
        first = p.rounds - kLastRounds;
    } else {
        centroids.resize(p.k * d);
        gather_rows(p.k, sample.data(), d, x, centroids.data());
    }
    if (p.spherical) {
        scale_to_unit(p.k, d, centroids.data());
    }
    std::vector<int64_t> lists(sample.size());
    for (size_t round = first; round < p.rounds; round++) {
        if (p.on_round) {
            p.on_round(round, p.rounds);
        }
        const size_t used = rows_of_round(p, round, sample.size());
        assign_rows(used, sample.data(), d, x, p, centroids, lists.data());
        const RowsByList by_list(p.k, used, lists.data());
        const std::vector<double> distances =
                set_to_means(by_list, sample, d, x, p, centroids);
        split_largest(d, by_list, distances, centroids);
        if (p.spherical) {
            scale_to_unit(p.k, d, centroids.data());
        }
    }
    if (p.on_round) {
        p.on_round(p.rounds, p.rounds);
    }
    return centroids;
}

void move_to_means(
        size_t n,
        size_t d,
        const float* x,
        size_t nlist,
        float* centroids) {
    constexpr float kLongest = 3; // times the median of the list
    std::vector<int64_t> lists(n);
    const NearestRows nearest(nlist, d, centroids, true);
    for_tiles((n + kAssignTile - 1) / kAssignTile, [&](size_t tile) {
        const size_t begin = tile * kAssignTile;
        const size_t size = std::min(kAssignTile, n - begin);
        std::vector<float> units(x + begin * d, x + (begin + size) * d);
        scale_to_unit(size, d, units.data());
        nearest.find(size, units.data(), lists.data() + begin);
    });
    const std::vector<float> lengths = row_lengths(n, d, x);
    const RowsByList by_list(nlist, n, lists.data());
    for_tiles(nlist, [&](size_t l) {
        std::vector<float> of_list;
        for (size_t r = by_list.begin[l]; r < by_list.begin[l + 1]; r++) {
            of_list.push_back(lengths[by_list.order[r]]);
        }
        const float longest = kLongest * quantile(of_list, 0.5);
        if (of_list.empty() || longest == 0) {
            return;
        }
        std::vector<double> sum(d);
        for (size_t r = by_list.begin[l]; r < by_list.begin[l + 1]; r++) {
            const size_t i = by_list.order[r];
            const double weight =
                    lengths[i] > longest ? longest / lengths[i] : 1;
            for (size_t j = 0; j < d; j++) {
                sum[j] += weight * x[i * d + j];
            }
        }
        for (size_t j = 0; j < d; j++) {
            centroids[l * d + j] = float(sum[j] / double(of_list.size()));
        }
    });
}

} // namespace faiss_ext
