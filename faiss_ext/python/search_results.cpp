#include "search_results.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "array_arguments.h"
#include "call_guard.h"

namespace faiss_ext::python {

namespace {

/// k that any index takes, however few rows it has
constexpr int64_t kMaxMissing = 1 << 20;

/// Those of one search. Only what the caller gave can share memory.
struct Results {
    py::array_t<float> distances;
    py::array_t<int64_t> labels;
    std::optional<py::array_t<float>> rows;
};

Results results_for(
        const Outputs& given,
        const py::array& queries,
        int64_t n,
        int64_t k,
        std::optional<int64_t> d) {
    Results results{
            output_argument<float>("D", given.D, {n, k}),
            output_argument<int64_t>("I", given.I, {n, k}),
            {}};
    if (d) {
        results.rows = output_argument<float>("R", given.R, {n, k, *d});
    }
    std::vector<std::pair<const char*, const py::array*>> all = {
            {"D", &results.distances}, {"I", &results.labels}};
    if (d) {
        all.emplace_back("R", &*results.rows);
    }
    all.emplace_back("x", &queries);
    for (size_t i = 0; i < all.size(); i++) {
        for (size_t j = i + 1; j < all.size(); j++) {
            check_apart(
                    all[i].first, *all[i].second, all[j].first, *all[j].second);
        }
    }
    return results;
}

/// Counts what a call does, and adds it to the caller's figures under the GIL:
/// calls of several threads may fill the same object.
void add_stats(ScaNNSearchStats* to, const ScaNNSearchStats& from) {
    if (to != nullptr) {
        *to += from;
    }
}

} // namespace

void check_radius(double radius) {
    if (std::isnan(radius)) {
        throw py::value_error("radius = nan (allowed: any other number)");
    }
}

py::tuple nearest_results(
        const IndexHandle& self,
        SearchArguments& arguments,
        int64_t k,
        bool with_rows,
        const Outputs& outputs,
        ScaNNSearchStats* stats,
        const NearestWork& work) {
    // far more than there are rows would fill memory with "no result"
    checked_integer(
            "k", k, 1, std::max<int64_t>(kMaxMissing, self.seen()->ntotal));
    const int64_t n = arguments.queries.n;
    const int64_t d = self.index()->d;
    Results results = results_for(
            outputs,
            arguments.queries.owner,
            n,
            k,
            with_rows ? std::optional(d) : std::nullopt);
    const ResultPointers out{
            results.distances.mutable_data(),
            results.labels.mutable_data(),
            with_rows ? results.rows->mutable_data() : nullptr};
    if (stats != nullptr) {
        arguments.params.stats = &arguments.counted;
    }
    self.see(ErrorOrigin::Caller, [&](const faiss::Index& index) {
        in_slices(n, [&](int64_t begin, int64_t count) {
            work(index,
                 begin,
                 count,
                 {out.distances + begin * k,
                  out.labels + begin * k,
                  with_rows ? out.rows + begin * k * d : nullptr});
        });
    });
    add_stats(stats, arguments.counted);
    if (with_rows) {
        return py::make_tuple(results.distances, results.labels, *results.rows);
    }
    return py::make_tuple(results.distances, results.labels);
}

py::tuple range_results(
        const IndexHandle& self,
        SearchArguments& arguments,
        ScaNNSearchStats* stats,
        const RangeWork& work) {
    if (stats != nullptr) {
        arguments.params.stats = &arguments.counted;
    }
    std::vector<int64_t> lims = {0};
    std::vector<std::unique_ptr<faiss::RangeSearchResult>> slices;
    self.see(ErrorOrigin::Caller, [&](const faiss::Index& index) {
        in_slices(arguments.queries.n, [&](int64_t begin, int64_t count) {
            auto found = std::make_unique<faiss::RangeSearchResult>(count);
            work(index, begin, count, found.get());
            int64_t before = lims.back();
            for (int64_t i = 1; i <= count; i++) {
                lims.push_back(before + int64_t(found->lims[i]));
            }
            slices.push_back(std::move(found));
        });
    });
    add_stats(stats, arguments.counted);
    py::array_t<int64_t> out_lims(int64_t(lims.size()), lims.data());
    py::array_t<float> distances(lims.back());
    py::array_t<int64_t> labels(lims.back());
    float* next_distance = distances.mutable_data();
    int64_t* next_label = labels.mutable_data();
    for (auto& found : slices) {
        size_t count = found->lims[found->nq];
        next_distance = std::copy_n(found->distances, count, next_distance);
        next_label = std::copy_n(found->labels, count, next_label);
        found.reset();
    }
    return py::make_tuple(out_lims, distances, labels);
}

} // namespace faiss_ext::python
