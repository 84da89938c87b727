/* Search, RangeSearch, AnnIterator: queries in, results out. */

#include <algorithm>
#include <limits>
#include <optional>

#include <knowhere_plugin/faiss_node.h>
#include <knowhere_plugin/guard.h>
#include <knowhere_plugin/node_iterator.h>

namespace knowhere_plugin {

namespace {

/// 3 GB of results: for a k of 2^31 the system would grant the memory, and kill
/// the process that writes to it.
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
                "radius is missing (allowed: a number; a range search needs "
                "it)");
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
                    "range_filter = " + shown(parameters.real("range_filter")) +
                            " with radius = " +
                            shown(parameters.real("radius")) +
                            " (allowed for " + name_of(metric) +
                            ": range_filter " + (l2 ? "<" : ">") + " radius)");
        }
    }
    return limits;
}

/// By rounding, cosines of unit vectors are up to 1e-6 outside of [-1, 1], and
/// so of the ranges that users give.
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

Status FaissNode::CheckConfig(const Config& config, unsigned phases)
        const noexcept {
    return guarded([&] {
        Parameters parameters(schema_, config, phases);
        if ((phases & kBuild) != 0) {
            check_build(parameters);
        }
        if ((phases & kSearch) != 0) {
            check_search(parameters, parameters.integer("k"));
        }
        const std::shared_ptr<NodeIndex> now = current_.load();
        if (now != nullptr && (phases & kBuild) == 0) {
            check_metric(parameters, now->metric());
        }
        if ((phases & kRange) != 0 && parameters.given("radius")) {
            const bool as_built =
                    now != nullptr && !parameters.given("metric_type");
            range_limits(
                    parameters,
                    as_built ? now->metric()
                             : metric_of(parameters.word("metric_type")));
        }
    });
}

void FaissNode::search_rows(
        const NodeIndex::Reading& index,
        const SearchRequest& request) const {
    const auto [n, k] = std::pair(request.n, request.k);
    const bool l2 = index.metric() == Metric::L2;
    std::fill_n(request.labels, n * k, -1);
    std::fill_n(
            request.distances,
            n * k,
            std::numeric_limits<float>::max() * (l2 ? 1.f : -1.f));
    const int64_t found = std::min(k, request.filter.passing());
    if (found == 0 || n == 0) {
        return;
    }
    if (found == k) {
        search_index(*index, request);
    } else { // the results have more columns
        std::vector<float> distances(n * found);
        std::vector<int64_t> labels(n * found);
        SearchRequest narrow = request;
        narrow.k = found;
        narrow.distances = distances.data();
        narrow.labels = labels.data();
        search_index(*index, narrow);
        for (int64_t q = 0; q < n; q++) {
            std::copy_n(
                    &distances[q * found], found, request.distances + q * k);
            std::copy_n(&labels[q * found], found, request.labels + q * k);
        }
    }
    for (int64_t i = 0; i < n * k; i++) {
        if (request.labels[i] >= 0) {
            request.distances[i] =
                    clamped(index.metric(), request.distances[i]);
        }
    }
}

void FaissNode::complete_results(
        const NodeIndex::Reading& index,
        const SearchRequest& request) const {
    const int64_t full = std::min(request.k, request.filter.passing());
    for (int64_t q = 0; q < request.n && full > 0; q++) {
        if (request.labels[q * request.k + full - 1] == -1) {
            SearchRequest again = request.part(q, 1);
            again.scope = kWholeIndex;
            search_rows(index, again);
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
        const NodeIndex::Reading index = reading();
        check_queries(index, queries, parameters);
        const int64_t n = queries.rows;
        const int64_t k = parameters.integer("k");
        check_search(parameters, k);
        if (k > kMaxResults / std::max<int64_t>(n, 1)) {
            throw Fault(
                    StatusCode::out_of_range_in_json,
                    "k = " + std::to_string(k) + " for " + std::to_string(n) +
                            " queries (allowed: k * queries <= " +
                            std::to_string(kMaxResults) + ")");
        }
        std::vector<float> unit = unit_rows(queries, index.metric());
        RowFilter filter(filtered, index->ntotal);
        auto results = std::make_shared<Results>();
        results->ids.resize(n * k);
        results->distance.resize(n * k);
        SearchRequest request{
                .parameters = parameters,
                .filter = filter,
                .scope = kAsAsked,
                .n = n,
                .d = queries.dim,
                .queries = unit.empty() ? queries.tensor : unit.data(),
                .k = k,
                .distances = results->distance.data(),
                .labels = results->ids.data()};
        search_rows(index, request);
        if (completes_short_results(parameters)) {
            complete_results(index, request);
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
        const NodeIndex::Reading index = reading();
        check_queries(index, queries, parameters);
        RangeLimits limits = range_limits(parameters, index.metric());
        std::vector<float> unit = unit_rows(queries, index.metric());
        const float* x = unit.empty() ? queries.tensor : unit.data();
        RowFilter filter(filtered, index->ntotal);
        auto results = std::make_shared<Results>();
        results->lims.resize(queries.rows + 1);
        int64_t n = filter.passing() == 0 ? 0 : queries.rows;
        for (int64_t q = 0; q < n; q++) {
            Hits hits = search_range(
                    *index,
                    {.parameters = parameters,
                     .filter = filter,
                     .scope = kAsAsked,
                     .query = x + q * queries.dim,
                     .radius = limits.index_radius});
            for (auto& [id, value] : hits) {
                value = clamped(index.metric(), value);
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

Hits FaissNode::next_nearest(
        const std::vector<float>& query,
        int64_t k,
        const Parameters& parameters,
        const RowFilter& given,
        SearchScope scope) const {
    ThreadScope threads(1);
    const NodeIndex::Reading index = reading();
    check_rows({1, int64_t(query.size()), query.data()}, "query", index->d);
    // without rows that were added after the iterator was made
    int64_t known = given.rows();
    std::optional<RowFilter> first;
    if (known < index->ntotal && given.selector() == nullptr) {
        std::vector<uint8_t> none((known + 7) / 8);
        first.emplace(BitsetView(none.data(), size_t(known)), index->ntotal);
    }
    const RowFilter& filter = first ? *first : given;
    k = std::min(k, filter.passing());
    std::vector<float> distances(k);
    std::vector<int64_t> labels(k);
    search_rows(
            index,
            {.parameters = parameters,
             .filter = filter,
             .scope = scope,
             .n = 1,
             .d = int64_t(query.size()),
             .queries = query.data(),
             .k = k,
             .distances = distances.data(),
             .labels = labels.data()});
    Hits hits;
    for (int64_t i = 0; i < k && labels[i] != -1; i++) {
        hits.emplace_back(labels[i], distances[i]);
    }
    return hits;
}

Hits FaissNode::next_piece(Pieces& pieces) const {
    ThreadScope threads(1);
    if (reading().build() != pieces.index->build()) {
        throw Fault(
                StatusCode::invalid_args,
                std::string(type_) +
                        ": the index was built or loaded anew since this "
                        "iterator was made; make another");
    }
    Hits hits = pieces.rows->next();
    for (auto& [id, value] : hits) {
        value = clamped(pieces.index->metric(), value);
    }
    return hits;
}

Expected<IndexNode::Iterators> FaissNode::AnnIterator(
        const DataSet& queries,
        const Config& config,
        const BitsetView& filtered) const noexcept {
    return guarded_value<Iterators>([&] {
        auto parameters = std::make_shared<Parameters>(schema_, config);
        auto kept = std::make_shared<const NodeIndex::Reading>(reading());
        const NodeIndex::Reading& index = *kept;
        check_queries(index, queries, *parameters);
        std::vector<float> unit = unit_rows(queries, index.metric());
        const float* x = unit.empty() ? queries.tensor : unit.data();
        auto filter = std::make_shared<RowFilter>(filtered, index->ntotal);
        Iterators iterators;
        for (int64_t q = 0; q < queries.rows; q++) {
            const float* query = x + q * queries.dim;
            if (auto rows =
                        rows_in_pieces(*index, query, *parameters, *filter)) {
                iterators.push_back(std::make_unique<PieceIterator>(
                        *this,
                        Pieces{.index = kept,
                               .filter = filter,
                               .rows = std::move(rows)}));
                continue;
            }
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
