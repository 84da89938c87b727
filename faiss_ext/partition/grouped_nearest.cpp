#include <faiss_ext/partition/grouped_nearest.h>

#include <algorithm>
#include <numeric>

#include <faiss_ext/memory/parallel.h>
#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/partition/list_groups.h>
#include <faiss_ext/partition/rows_by_list.h>

namespace faiss_ext {

namespace {

/// Rows that a thread takes at a time.
constexpr size_t kTile = 128;
/// Making groups takes about as long as comparing so many rows a centroid with
/// all centroids.
constexpr size_t kMinRowsPerCentroid = 2;

void scatter(
        const std::vector<int64_t>& found,
        const size_t* which,
        int64_t* out) {
    for (size_t i = 0; i < found.size(); i++) {
        out[which[i]] = found[i];
    }
}

} // namespace

GroupedNearest::GroupedNearest(
        size_t n,
        size_t d,
        const float* centroids,
        bool unit,
        uint64_t seed)
        : d_(d), unit_(unit), nearest_(n, d, centroids, true, unit) {
    std::vector<float> points(n * d);
    for (size_t j = 0; j < n; j++) {
        nearest_.copy_row(j, &points[j * d]);
    }
    nearest_.use_groups(group_lists(n, d, points.data(), {}, seed));
}

bool GroupedNearest::pays(size_t rows, size_t centroids) {
    return centroids >= kMinGroupedLists &&
           rows >= kMinRowsPerCentroid * centroids;
}

/// Copies rows of x next to one another.
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
    if (unit_) { // lengths do not matter, and would cost digits
        scale_to_unit(count, d_, out);
    }
}

/** Calls search(count, copies of rows, their numbers in 0..rows - 1) for all
 * rows, in the order of the groups nearest to them: the groups that are looked
 * at then stay in a cache. */
template <class Search>
void GroupedNearest::for_tiles_by_group(
        size_t rows,
        const float* x,
        const size_t* numbers,
        const Search& search) const {
    std::vector<int64_t> group_of(rows);
    parallel_slices(rows, kTile, [&](size_t begin, size_t end) {
        std::vector<size_t> tile(end - begin);
        std::iota(tile.begin(), tile.end(), begin);
        std::vector<float> of_rows(tile.size() * d_);
        gather(tile.size(), tile.data(), numbers, x, of_rows.data());
        nearest_.find_groups(tile.size(), of_rows.data(), &group_of[begin]);
    });
    const std::vector<size_t> order =
            RowsByList(nearest_.groups(), rows, group_of.data()).order;
    parallel_slices(rows, kTile, [&](size_t begin, size_t end) {
        std::vector<float> of_rows((end - begin) * d_);
        gather(end - begin, &order[begin], numbers, x, of_rows.data());
        search(end - begin, of_rows.data(), &order[begin]);
    });
}

void GroupedNearest::find(
        size_t rows,
        const float* x,
        int64_t* nearest,
        const size_t* numbers) const {
    for_tiles_by_group(
            rows,
            x,
            numbers,
            [&](size_t count, const float* of_rows, const size_t* which) {
                std::vector<int64_t> found(count);
                nearest_.find(count, of_rows, found.data());
                scatter(found, which, nearest);
            });
}

void GroupedNearest::find_spilled(
        size_t rows,
        const float* x,
        const int64_t* primary,
        float lambda,
        int64_t* spilled) const {
    for_tiles_by_group(
            rows,
            x,
            nullptr,
            [&](size_t count, const float* of_rows, const size_t* which) {
                std::vector<int64_t> first(count), second(count);
                for (size_t i = 0; i < count; i++) {
                    first[i] = primary[which[i]];
                }
                nearest_.find_spilled(
                        count, of_rows, first.data(), lambda, second.data());
                scatter(second, which, spilled);
            });
}

void GroupedNearest::find_both(
        size_t rows,
        const float* x,
        float lambda,
        int64_t* nearest,
        int64_t* spilled) const {
    for_tiles_by_group(
            rows,
            x,
            nullptr,
            [&](size_t count, const float* of_rows, const size_t* which) {
                std::vector<int64_t> first(count), second(count);
                nearest_.find_both(
                        count, of_rows, lambda, first.data(), second.data());
                scatter(first, which, nearest);
                scatter(second, which, spilled);
            });
}

} // namespace faiss_ext
