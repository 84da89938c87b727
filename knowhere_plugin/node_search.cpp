/* Search, RangeSearch, AnnIterator: queries in, results out. */

#include <algorithm>
#include <limits>
#include <optional>

#include <knowhere_plugin/faiss_node.h>
#include <knowhere_plugin/guard.h>
#include <knowhere_plugin/node_iterator.h>

namespace knowhere_plugin {

namespace {

using ReadLock = std::shared_lock<std::shared_mutex>;

/// 3 GB of results: a k of 2^31 would be granted by the system, and kill the
/// process when it is written.
constexpr int64_t kMaxResults = int64_t(1) << 28;

/// Memory of a result, owned by its DataSet.
struct Results {
    std::vector<int64_t> ids;
    std::vector<float> distance;
    std::vector<size_t> lims;
};

DataSet result_set(int64_t rows, int64_t dim, std::shared_ptr<Results> owner) {
    DataSet set;
    set.rows = rows;
    set.dim = dim;
    set.ids = owner->ids.data();
    set.distance = owner->distance.data();
    set.lims = owner->lims.empty() ? nullptr : owner->lims.data();
    set.owner = std::move(owner);
    return set;
}

struct RangeLimits {
    float radius;
    float range_filter; ///< infinite if not given
    bool l2;
    float index_radius; ///< for values before they are clamped

    bool holds(float value) const {
        return l2 ? value >= range_filter && value < radius
                  : value <= range_filter && value > radius;
    }
};

RangeLimits range_limits(const Parameters& parameters, Metric metric) {
    bool l2 = metric == Metric::L2;
    if (!parameters.given("radius")) {
        throw Fault(
                StatusCode::invalid_args,
                "radius is missing: a range search needs it");
    }
    RangeLimits limits{
            float(parameters.real("radius")),
            std::numeric_limits<float>::infinity() * (l2 ? -1.f : 1.f),
            l2,
            0};
    bool all = metric == Metric::COSINE && limits.radius < -1;
    limits.index_radius =
            all ? std::numeric_limits<float>::lowest() : limits.radius;
    if (parameters.given("range_filter")) {
        limits.range_filter = float(parameters.real("range_filter"));
        if (l2 ? limits.range_filter >= limits.radius
               : limits.range_filter <= limits.radius) {
            throw Fault(
                    StatusCode::out_of_range_in_json,
                    "range_filter = " + std::to_string(limits.range_filter) +
                            " with radius = " + std::to_string(limits.radius) +
                            " (allowed for " + name_of(metric) +
                            ": range_filter " + (l2 ? "<" : ">") + " radius)");
        }
    }
    return limits;
}

/// Rounding leaves a cosine of unit vectors up to 1e-6 outside of [-1, 1], and
/// so outside of the ranges that users give.
float clamped(Metric metric, float value) {
    return metric == Metric::COSINE ? std::clamp(value, -1.f, 1.f) : value;
}

void sort_nearest_first(Hits& hits, bool l2) {
    std::sort(hits.begin(), hits.end(), [l2](const auto& a, const auto& b) {
        return a.second != b.second ? (a.second < b.second) == l2
                                    : a.first < b.first;
    });
}

} // namespace

void FaissNode::search_rows(
        const SearchCall& call,
        int64_t n,
        const float* x,
        int64_t k,
        float* distances,
        int64_t* labels) const {
    bool l2 = held_.metric == Metric::L2;
    std::fill_n(labels, n * k, -1);
    std::fill_n(
            distances,
            n * k,
            std::numeric_limits<float>::max() * (l2 ? 1.f : -1.f));
    int64_t few = std::min(k, call.filter.passing());
    if (few == 0 || n == 0) {
        return;
    }
    if (few == k) {
        search_index(*held_.index, call, n, x, k, distances, labels);
    }
    if (few < k) {
        std::vector<float> found(n * few);
        std::vector<int64_t> ids(n * few);
        search_index(*held_.index, call, n, x, few, found.data(), ids.data());
        for (int64_t q = 0; q < n; q++) {
            std::copy_n(&found[q * few], few, distances + q * k);
            std::copy_n(&ids[q * few], few, labels + q * k);
        }
    }
    for (int64_t i = 0; i < n * k; i++) {
        if (labels[i] >= 0) {
            distances[i] = clamped(held_.metric, distances[i]);
        }
    }
}

Expected<DataSet> FaissNode::Search(
        const DataSet& queries,
        const Config& config,
        const BitsetView& filtered) const noexcept {
    return guarded_value<DataSet>([&] {
        Parameters parameters(schema_, config);
        ThreadScope threads(1);
        ReadLock lock(mutex_);
        check_held();
        check_metric(parameters);
        check_rows(queries, "queries", held_.index->d);
        int64_t n = queries.rows;
        int64_t k = parameters.integer("k");
        check_search(parameters, k);
        if (k > kMaxResults / std::max<int64_t>(n, 1)) {
            throw Fault(
                    StatusCode::out_of_range_in_json,
                    "k = " + std::to_string(k) + " for " + std::to_string(n) +
                            " queries (allowed: k * queries <= " +
                            std::to_string(kMaxResults) + ")");
        }
        std::vector<float> unit = scaled(queries, held_.metric);
        const float* x = unit.empty() ? queries.tensor : unit.data();
        RowFilter filter(filtered, held_.index->ntotal);
        auto results = std::make_shared<Results>();
        results->ids.resize(n * k);
        results->distance.resize(n * k);
        float* distances = results->distance.data();
        int64_t* labels = results->ids.data();
        search_rows({parameters, filter, kUsual}, n, x, k, distances, labels);
        int64_t full = std::min(k, filter.passing());
        int64_t refilled = full > 0 && fills_up(parameters) ? n : 0;
        for (int64_t q = 0; q < refilled; q++) {
            if (labels[q * k + full - 1] == -1) {
                search_rows(
                        {parameters, filter, kComplete},
                        1,
                        x + q * queries.dim,
                        k,
                        distances + q * k,
                        labels + q * k);
            }
        }
        return result_set(n, k, std::move(results));
    });
}

Expected<DataSet> FaissNode::RangeSearch(
        const DataSet& queries,
        const Config& config,
        const BitsetView& filtered) const noexcept {
    return guarded_value<DataSet>([&] {
        Parameters parameters(schema_, config);
        ThreadScope threads(1);
        ReadLock lock(mutex_);
        check_held();
        check_metric(parameters);
        check_rows(queries, "queries", held_.index->d);
        RangeLimits limits = range_limits(parameters, held_.metric);
        std::vector<float> unit = scaled(queries, held_.metric);
        const float* x = unit.empty() ? queries.tensor : unit.data();
        RowFilter filter(filtered, held_.index->ntotal);
        auto results = std::make_shared<Results>();
        results->lims.resize(queries.rows + 1);
        int64_t n = filter.passing() == 0 ? 0 : queries.rows;
        for (int64_t q = 0; q < n; q++) {
            Hits hits = search_range(
                    *held_.index,
                    {parameters, filter, kUsual},
                    x + q * queries.dim,
                    limits.index_radius);
            for (auto& [id, value] : hits) {
                value = clamped(held_.metric, value);
            }
            sort_nearest_first(hits, limits.l2);
            for (auto [id, value] : hits) {
                if (limits.holds(value)) {
                    results->ids.push_back(id);
                    results->distance.push_back(value);
                }
            }
            results->lims[q + 1] = results->ids.size();
        }
        return result_set(queries.rows, 0, std::move(results));
    });
}

Hits FaissNode::hits_of(
        const std::vector<float>& query,
        int64_t k,
        const SearchCall& call) const {
    ThreadScope threads(1);
    ReadLock lock(mutex_);
    check_held();
    check_rows(
            {1, int64_t(query.size()), query.data()}, "query", held_.index->d);
    // rows added since the iterator was made stay out
    int64_t known = call.filter.rows();
    std::optional<RowFilter> first;
    if (known < held_.index->ntotal && call.filter.selector() == nullptr) {
        std::vector<uint8_t> none((known + 7) / 8);
        first.emplace(
                BitsetView(none.data(), size_t(known)), held_.index->ntotal);
    }
    const RowFilter& filter = first ? *first : call.filter;
    k = std::min(k, filter.passing());
    std::vector<float> distances(k);
    std::vector<int64_t> labels(k);
    search_rows(
            {call.parameters, filter, call.reach},
            1,
            query.data(),
            k,
            distances.data(),
            labels.data());
    Hits hits;
    for (int64_t i = 0; i < k && labels[i] != -1; i++) {
        hits.emplace_back(labels[i], distances[i]);
    }
    return hits;
}

Expected<IndexNode::Iterators> FaissNode::AnnIterator(
        const DataSet& queries,
        const Config& config,
        const BitsetView& filtered) const noexcept {
    return guarded_value<Iterators>([&] {
        auto parameters = std::make_shared<Parameters>(schema_, config);
        ReadLock lock(mutex_);
        check_held();
        check_metric(*parameters);
        check_rows(queries, "queries", held_.index->d);
        std::vector<float> unit = scaled(queries, held_.metric);
        const float* x = unit.empty() ? queries.tensor : unit.data();
        auto filter =
                std::make_shared<RowFilter>(filtered, held_.index->ntotal);
        Iterators iterators;
        for (int64_t q = 0; q < queries.rows; q++) {
            const float* query = x + q * queries.dim;
            iterators.push_back(std::make_unique<NodeIterator>(
                    *this,
                    std::vector<float>(query, query + queries.dim),
                    parameters,
                    filter));
        }
        return iterators;
    });
}

} // namespace knowhere_plugin
