#include <faiss_ext/partition/grouped_nearest.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/partition/list_groups.h>
#include <faiss_ext/partition/nearest.h>

namespace faiss_ext {

namespace {

/// Of the centroids, one in so many is a candidate of a cell, at least.
constexpr size_t kCandidateShare = 8;
/// Rows that a thread finds the cells of at a time.
constexpr size_t kCellTile = 128;
/// Preparing the candidates of all cells takes about as long as comparing so
/// many rows with all centroids, for each group.
constexpr size_t kRowsPerGroup = 32;

/// Groups in the order of the distance of their means from one of them.
std::vector<uint32_t>
groups_around(size_t cell, size_t groups, size_t d, const float* means) {
    std::vector<std::pair<float, uint32_t>> ranked(groups);
    for (size_t g = 0; g < groups; g++) {
        ranked[g] = {
                quick_distance(d, means + g * d, means + cell * d),
                uint32_t(g)};
    }
    ranked[cell].first = -1; // first, also where a distance overflows
    std::sort(ranked.begin(), ranked.end());
    std::vector<uint32_t> order(groups);
    for (size_t i = 0; i < groups; i++) {
        order[i] = ranked[i].second;
    }
    return order;
}

/// Numbers of rows by cell: those of cell c are order[begin[c] .. begin[c + 1]).
struct RowsByCell {
    std::vector<size_t> begin, order;

    RowsByCell(size_t cells, const std::vector<int64_t>& cell_of)
            : begin(cells + 1), order(cell_of.size()) {
        for (int64_t cell : cell_of) {
            begin[cell + 1]++;
        }
        std::partial_sum(begin.begin(), begin.end(), begin.begin());
        std::vector<size_t> next(begin.begin(), begin.end() - 1);
        for (size_t i = 0; i < cell_of.size(); i++) {
            order[next[cell_of[i]]++] = i;
        }
    }
};

} // namespace

GroupedNearest::GroupedNearest(
        size_t n,
        size_t d,
        const float* centroids,
        bool unit,
        uint64_t seed)
        : n_(n), d_(d), unit_(unit), centroids_(centroids) {
    std::vector<float> units;
    const float* points = centroids;
    if (unit) {
        units.assign(centroids, centroids + n * d);
        scale_to_unit(n, d, units.data());
        points = units.data();
    }
    const std::vector<uint32_t> group_of = group_lists(n, d, points, {}, seed);
    const size_t groups =
            size_t(*std::max_element(group_of.begin(), group_of.end())) + 1;
    std::vector<std::vector<uint32_t>> members(groups);
    std::vector<double> sums(groups * d);
    for (size_t j = 0; j < n; j++) {
        members[group_of[j]].push_back(uint32_t(j));
        for (size_t i = 0; i < d; i++) {
            sums[group_of[j] * d + i] += points[j * d + i];
        }
    }
    means_.resize(groups * d);
    for (size_t g = 0; g < groups; g++) {
        const double share = members[g].empty() ? 0 : 1. / members[g].size();
        for (size_t i = 0; i < d; i++) {
            means_[g * d + i] = float(share * sums[g * d + i]);
        }
    }
    std::vector<std::vector<uint32_t>> candidates(groups);
    for_tiles(groups, [&](size_t cell) {
        std::vector<uint32_t>& some = candidates[cell];
        for (uint32_t g : groups_around(cell, groups, d, means_.data())) {
            if (some.size() >= n / kCandidateShare && !some.empty()) {
                break;
            }
            some.insert(some.end(), members[g].begin(), members[g].end());
        }
        std::sort(some.begin(), some.end());
    });
    begin_.push_back(0);
    for (const std::vector<uint32_t>& some : candidates) {
        candidates_.insert(candidates_.end(), some.begin(), some.end());
        begin_.push_back(candidates_.size());
    }
}

bool GroupedNearest::pays(size_t rows, size_t centroids) {
    return centroids >= kMinGroupedLists &&
           rows >= centroids / kGroupLists * kRowsPerGroup;
}

/** Calls search(candidates as NearestRows, rows of a cell, numbers of their
 * primary centroids among the candidates, nearest, spilled) for each cell; what
 * it finds are numbers among the candidates.
 * @param primary  size rows, or nullptr */
template <class Search>
void GroupedNearest::for_cells(
        size_t rows,
        const float* x,
        const size_t* numbers,
        const int64_t* primary,
        const Search& search) const {
    const size_t groups = begin_.size() - 1;
    std::vector<int64_t> cell_of(rows);
    const NearestRows means(groups, d_, means_.data(), true);
    parallel_slices(rows, kCellTile, [&](size_t begin, size_t end) {
        size_t tile[kCellTile];
        std::iota(tile, tile + (end - begin), begin);
        std::vector<float> of_rows((end - begin) * d_);
        gather(end - begin, tile, numbers, x, of_rows.data());
        means.find(end - begin, of_rows.data(), cell_of.data() + begin);
    });
    for (int64_t& cell : cell_of) {
        cell = std::max<int64_t>(cell, 0); // rows that are not finite
    }
    const RowsByCell by_cell(groups, cell_of);
    for_tiles(groups, [&](size_t cell) {
        const size_t count = by_cell.begin[cell + 1] - by_cell.begin[cell];
        if (count == 0) {
            return;
        }
        const size_t* which = &by_cell.order[by_cell.begin[cell]];
        std::vector<size_t> of_cell(
                candidates_.begin() + ptrdiff_t(begin_[cell]),
                candidates_.begin() + ptrdiff_t(begin_[cell + 1]));
        std::vector<int64_t> places(count);
        if (primary != nullptr) {
            for (size_t i = 0; i < count; i++) {
                if (primary[which[i]] >= 0) {
                    of_cell.push_back(size_t(primary[which[i]]));
                }
            }
            std::sort(of_cell.begin(), of_cell.end());
            of_cell.erase(
                    std::unique(of_cell.begin(), of_cell.end()), of_cell.end());
            for (size_t i = 0; i < count; i++) {
                const int64_t list = primary[which[i]];
                places[i] = list < 0 ? -1
                                     : std::lower_bound(
                                               of_cell.begin(),
                                               of_cell.end(),
                                               list) -
                                               of_cell.begin();
            }
        }
        std::vector<float> some(of_cell.size() * d_);
        gather_rows(
                of_cell.size(), of_cell.data(), d_, centroids_, some.data());
        const NearestRows nearest(of_cell.size(), d_, some.data(), true, unit_);
        std::vector<float> of_rows(count * d_);
        gather(count, which, numbers, x, of_rows.data());
        search(nearest, count, of_rows.data(), places.data(), which, of_cell);
    });
}

/// Copies rows of x next to one another, scaled where they are.
void GroupedNearest::gather(
        size_t count,
        const size_t* rows,
        const size_t* numbers,
        const float* x,
        float* out) const {
    for (size_t i = 0; i < count; i++) {
        const size_t row = numbers == nullptr ? rows[i] : numbers[rows[i]];
        std::copy_n(x + row * d_, d_, out + i * d_);
    }
    if (unit_) {
        scale_to_unit(count, d_, out);
    }
}

namespace {

/// Writes what was found for the rows of a cell to their places.
void put(
        size_t count,
        const size_t* which,
        const std::vector<size_t>& of_cell,
        const std::vector<int64_t>& found,
        int64_t* out) {
    for (size_t i = 0; i < count; i++) {
        out[which[i]] = found[i] < 0 ? -1 : int64_t(of_cell[found[i]]);
    }
}

} // namespace

void GroupedNearest::find(
        size_t rows,
        const float* x,
        int64_t* nearest,
        const size_t* numbers) const {
    for_cells(
            rows,
            x,
            numbers,
            nullptr,
            [&](const NearestRows& candidates,
                size_t count,
                const float* of_rows,
                const int64_t*,
                const size_t* which,
                const std::vector<size_t>& of_cell) {
                std::vector<int64_t> found(count);
                candidates.find(count, of_rows, found.data());
                put(count, which, of_cell, found, nearest);
            });
}

void GroupedNearest::find_spilled(
        size_t rows,
        const float* x,
        const int64_t* primary,
        float lambda,
        int64_t* spilled) const {
    for_cells(
            rows,
            x,
            nullptr,
            primary,
            [&](const NearestRows& candidates,
                size_t count,
                const float* of_rows,
                const int64_t* places,
                const size_t* which,
                const std::vector<size_t>& of_cell) {
                std::vector<int64_t> found(count);
                candidates.find_spilled(
                        count, of_rows, places, lambda, found.data());
                put(count, which, of_cell, found, spilled);
            });
}

void GroupedNearest::find_both(
        size_t rows,
        const float* x,
        float lambda,
        int64_t* nearest,
        int64_t* spilled) const {
    for_cells(
            rows,
            x,
            nullptr,
            nullptr,
            [&](const NearestRows& candidates,
                size_t count,
                const float* of_rows,
                const int64_t*,
                const size_t* which,
                const std::vector<size_t>& of_cell) {
                std::vector<int64_t> found(count), second(count);
                candidates.find_both(
                        count, of_rows, lambda, found.data(), second.data());
                put(count, which, of_cell, found, nearest);
                put(count, which, of_cell, second, spilled);
            });
}

} // namespace faiss_ext
