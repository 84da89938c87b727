#include <faiss_ext/index/list_statistics.h>

#include <algorithm>
#include <cfloat>
#include <numeric>

#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/model/defaults.h>
#include <faiss_ext/search/probes.h>

namespace faiss_ext {

namespace {

/// Rows that the lists' spread is measured on; with 8 to 16 a list, recall at
/// the same nprobe is up to .005 worse (4096 lists of glove-50, wordnet-384).
constexpr size_t kSpreadRows = 65536;
constexpr size_t kSpreadRowsPerList = 32;
/// Rows that are assigned in one call, which bounds the memory for residuals.
constexpr size_t kRowsAtATime = 4096;
/// Rows that serve as queries in probes_for_rows().
constexpr size_t kProbeRows = 256;
/// Ranking lists again costs about as much as the first time: it asks for this
/// many times as many.
constexpr size_t kAskedGrowth = 4;

template <class SizeOf>
double imbalance_of(size_t nlist, SizeOf&& size_of) {
    double sum = 0, squares = 0;
    for (size_t l = 0; l < nlist; l++) {
        const double size = double(size_of(l));
        sum += size;
        squares += size * size;
    }
    return sum > 0 ? squares * double(nlist) / (sum * sum) : 1;
}

} // namespace

ListStatistics measure_lists(
        const IndexState& state,
        size_t n,
        const float* x,
        const int64_t* lists_of_rows) {
    const size_t d = state.d();
    const size_t nlist = state.ivf.nlist;
    const std::vector<size_t> sample = sample_rows(
            n,
            std::max(kSpreadRows, kSpreadRowsPerList * nlist),
            state.options.seed);
    ListStatistics statistics;
    statistics.rows.resize(nlist);
    std::vector<double> sums(nlist);
    double total = 0;
    size_t found = 0;
    std::vector<float> rows(std::min(kRowsAtATime, sample.size()) * d);
    std::vector<int64_t> lists(kRowsAtATime);
    for (size_t begin = 0; begin < sample.size(); begin += kRowsAtATime) {
        size_t size = std::min(kRowsAtATime, sample.size() - begin);
        gather_rows(size, &sample[begin], d, x, rows.data());
        if (lists_of_rows == nullptr) {
            assign_lists(state, size, rows.data(), lists.data());
        } else {
            std::transform(
                    &sample[begin],
                    &sample[begin] + size,
                    lists.begin(),
                    [&](size_t row) { return lists_of_rows[row]; });
        }
        std::vector<float> centroids = centroids_of(state, size, lists.data());
        for (size_t i = 0; i < size * d; i++) {
            rows[i] = std::clamp(rows[i] - centroids[i], -FLT_MAX, FLT_MAX);
        }
        for (size_t i = 0; i < size; i++) {
            if (lists[i] < 0) {
                continue; // a quantizer that is a graph may find none
            }
            double square = precise_square(d, rows.data() + i * d);
            sums[lists[i]] += square;
            statistics.rows[lists[i]]++;
            total += square;
            found++;
        }
    }
    statistics.spread.resize(nlist);
    const double mean = total / double(std::max<size_t>(found, 1));
    statistics.error = float(std::min(mean, double(FLT_MAX)));
    for (size_t l = 0; l < nlist; l++) {
        const size_t count = statistics.rows[l];
        const double spread = count > 0 ? sums[l] / double(count) : mean;
        statistics.spread[l] = float(std::min(spread, double(FLT_MAX)));
    }
    return statistics;
}

double imbalance(const std::vector<size_t>& sizes) {
    return imbalance_of(sizes.size(), [&](size_t l) { return sizes[l]; });
}

double imbalance(const faiss::InvertedLists& lists) {
    return imbalance_of(
            lists.nlist, [&](size_t l) { return lists.list_size(l); });
}

size_t probes_for_rows(
        const IndexState& state,
        size_t n,
        const float* x,
        const std::vector<size_t>& list_rows) {
    const size_t d = state.d();
    const size_t nlist = state.ivf.nlist;
    const size_t least = default_nprobe(nlist);
    const size_t total =
            std::accumulate(list_rows.begin(), list_rows.end(), size_t(0));
    const double wanted = double(total) * double(least) / double(nlist);
    const std::vector<size_t> sample =
            sample_rows(n, kProbeRows, state.options.seed);
    std::vector<float> query(d), scores(nlist);
    std::vector<int64_t> lists(nlist);
    std::vector<float> needed;
    for (size_t i : sample) {
        size_t held = 0, count = 0;
        for (size_t asked = least; count < nlist && held < wanted;
             asked = std::min(nlist, kAskedGrowth * asked)) {
            find_probes(
                    state,
                    1,
                    x + i * d,
                    asked,
                    {},
                    lists.data(),
                    scores.data());
            for (; count < asked && held < wanted; count++) {
                held += lists[count] < 0 ? 0 : list_rows[lists[count]];
            }
        }
        needed.push_back(float(count));
    }
    return std::max(least, size_t(quantile(needed, 0.5)));
}

} // namespace faiss_ext
