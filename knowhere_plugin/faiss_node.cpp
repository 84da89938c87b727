#include <knowhere_plugin/faiss_node.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

#include <faiss/IndexIVF.h>
#include <faiss/impl/AuxIndexStructures.h>

#include <knowhere_plugin/guard.h>
#include <knowhere_plugin/node_blob.h>
#include <knowhere_plugin/node_iterator.h>

namespace knowhere_plugin {

namespace {

using ReadLock = std::shared_lock<std::shared_mutex>;
using WriteLock = std::unique_lock<std::shared_mutex>;

int build_threads(const Parameters& parameters) {
    return parameters.given("num_build_thread")
                   ? int(parameters.integer("num_build_thread"))
                   : 0;
}

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
            std::numeric_limits<float>::infinity() * (l2 ? -1.f : 1.f)};
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

} // namespace

// ---------------------------------------------------------------- checks

void FaissNode::check_held() const {
    if (held_.index == nullptr) {
        throw Fault(
                StatusCode::empty_index,
                std::string(type_) + ": neither built nor loaded");
    }
}

void FaissNode::check_metric(const Parameters& parameters) const {
    if (parameters.given("metric_type") &&
        parameters.word("metric_type") != name_of(held_.metric)) {
        throw Fault(
                StatusCode::invalid_metric_type,
                "metric_type = \"" + parameters.word("metric_type") +
                        "\" (the index was built with " +
                        name_of(held_.metric) + ")");
    }
}

void FaissNode::check_rows(const DataSet& rows, const char* what, int64_t d)
        const {
    std::string name = what;
    if (rows.rows < 0 || (rows.rows > 0 && rows.tensor == nullptr)) {
        throw Fault(
                StatusCode::invalid_args,
                name + ": " + std::to_string(rows.rows) + " rows" +
                        (rows.rows > 0 ? " without a tensor" : ""));
    }
    if (d != 0 ? rows.dim != d : rows.dim < 1 || rows.dim > 65536) {
        throw Fault(
                StatusCode::invalid_args,
                name + ": dim = " + std::to_string(rows.dim) + " (allowed: " +
                        (d != 0 ? std::to_string(d) : "1..65536") + ")");
    }
    for (int64_t i = 0; i < rows.rows * rows.dim; i++) {
        if (!std::isfinite(rows.tensor[i])) {
            throw Fault(
                    StatusCode::invalid_args,
                    name + ": row " + std::to_string(i / rows.dim) +
                            ", dimension " + std::to_string(i % rows.dim) +
                            " is not finite");
        }
    }
}

// ----------------------------------------------------------------- build

std::vector<float> FaissNode::scaled(const DataSet& rows, Metric metric) const {
    if (metric != Metric::COSINE || !normalizes_here()) {
        return {};
    }
    std::vector<float> unit(rows.tensor, rows.tensor + rows.rows * rows.dim);
    for (int64_t i = 0; i < rows.rows; i++) {
        float* row = &unit[i * rows.dim];
        double sum = 0;
        for (int64_t j = 0; j < rows.dim; j++) {
            sum += double(row[j]) * row[j];
        }
        double scale = sum > 0 ? 1 / std::sqrt(sum) : 0;
        for (int64_t j = 0; j < rows.dim; j++) {
            row[j] = float(row[j] * scale);
        }
    }
    return unit;
}

Held FaissNode::train_held(const DataSet& rows, const Parameters& parameters)
        const {
    check_rows(rows, "rows", 0);
    if (parameters.given("dim") && parameters.integer("dim") != rows.dim) {
        throw Fault(
                StatusCode::invalid_args,
                "dim = " + std::to_string(parameters.integer("dim")) +
                        ", but the rows have " + std::to_string(rows.dim));
    }
    Metric metric = metric_of(parameters.word("metric_type"));
    // a unit vector stands in for no rows: zero has no direction
    std::vector<float> standin(rows.rows == 0 ? rows.dim : 0);
    if (!standin.empty()) {
        standin[0] = 1;
    }
    std::vector<float> unit = scaled(rows, metric);
    const float* x = rows.rows == 0 ? standin.data()
                     : unit.empty() ? rows.tensor
                                    : unit.data();
    return {train_index(
                    std::max<int64_t>(rows.rows, 1),
                    rows.dim,
                    x,
                    metric,
                    parameters),
            metric};
}

void FaissNode::add_rows(Held& held, const DataSet& rows) const {
    check_rows(rows, "rows", held.index->d);
    if (rows.rows == 0) {
        return;
    }
    std::vector<float> unit = scaled(rows, held.metric);
    held.index->add(rows.rows, unit.empty() ? rows.tensor : unit.data());
}

Status FaissNode::Build(const DataSet& rows, const Config& config) noexcept {
    return guarded([&] {
        Parameters parameters(schema_, config);
        ThreadScope threads(build_threads(parameters));
        Held made = train_held(rows, parameters);
        add_rows(made, rows);
        WriteLock lock(mutex_);
        std::swap(held_, made);
    });
}

Status FaissNode::Train(const DataSet& rows, const Config& config) noexcept {
    return guarded([&] {
        Parameters parameters(schema_, config);
        ThreadScope threads(build_threads(parameters));
        Held made = train_held(rows, parameters);
        WriteLock lock(mutex_);
        std::swap(held_, made);
    });
}

Status FaissNode::Add(const DataSet& rows, const Config& config) noexcept {
    return guarded([&] {
        Parameters parameters(schema_, config);
        ThreadScope threads(build_threads(parameters));
        WriteLock lock(mutex_);
        if (held_.index == nullptr) {
            throw Fault(
                    StatusCode::index_not_trained,
                    std::string(type_) + ": Add before Train");
        }
        check_metric(parameters);
        add_rows(held_, rows);
    });
}

// ---------------------------------------------------------------- search

void FaissNode::search_rows(
        int64_t n,
        const float* x,
        int64_t k,
        const Parameters& parameters,
        const RowFilter& filter,
        Reach reach,
        float* distances,
        int64_t* labels) const {
    bool l2 = held_.metric == Metric::L2;
    std::fill_n(labels, n * k, -1);
    std::fill_n(
            distances,
            n * k,
            std::numeric_limits<float>::max() * (l2 ? 1.f : -1.f));
    int64_t few = std::min(k, filter.passing());
    if (few == 0 || n == 0) {
        return;
    }
    auto given = search_parameters(*held_.index, parameters, few, reach);
    const faiss::Index& index =
            searched(*held_.index, reach, filter.selector() != nullptr);
    // what is scanned instead of the index knows no parameters of its own
    faiss::SearchParameters plain;
    faiss::SearchParameters* used =
            &index == held_.index.get() ? given.get() : &plain;
    used->sel = const_cast<faiss::IDSelector*>(filter.selector());
    if (few == k) {
        index.search(n, x, k, distances, labels, used);
        return;
    }
    std::vector<float> found(n * few);
    std::vector<int64_t> ids(n * few);
    index.search(n, x, few, found.data(), ids.data(), used);
    for (int64_t q = 0; q < n; q++) {
        std::copy_n(&found[q * few], few, distances + q * k);
        std::copy_n(&ids[q * few], few, labels + q * k);
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
        int64_t k = parameters.integer("k");
        check_search(parameters, k);
        std::vector<float> unit = scaled(queries, held_.metric);
        const float* x = unit.empty() ? queries.tensor : unit.data();
        RowFilter filter(filtered, held_.index->ntotal);
        auto results = std::make_shared<Results>();
        int64_t n = queries.rows;
        results->ids.resize(n * k);
        results->distance.resize(n * k);
        float* distances = results->distance.data();
        int64_t* labels = results->ids.data();
        search_rows(
                n, x, k, parameters, filter, Reach::Usual, distances, labels);
        int64_t full = std::min(k, filter.passing());
        for (int64_t q = 0; full > 0 && fills_up(parameters) && q < n; q++) {
            if (labels[q * k + full - 1] == -1) {
                search_rows(
                        1,
                        x + q * queries.dim,
                        k,
                        parameters,
                        filter,
                        Reach::Complete,
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
        bool l2 = held_.metric == Metric::L2;
        RangeLimits limits = range_limits(parameters, held_.metric);
        std::vector<float> unit = scaled(queries, held_.metric);
        RowFilter filter(filtered, held_.index->ntotal);
        auto results = std::make_shared<Results>();
        results->lims.resize(queries.rows + 1);
        if (queries.rows == 0 || filter.passing() == 0) {
            return result_set(queries.rows, 0, std::move(results));
        }
        const faiss::Index& index = searched(
                *held_.index, range_reach(), filter.selector() != nullptr);
        auto given =
                search_parameters(*held_.index, parameters, 1, range_reach());
        faiss::SearchParameters plain;
        faiss::SearchParameters* used =
                &index == held_.index.get() ? given.get() : &plain;
        used->sel = const_cast<faiss::IDSelector*>(filter.selector());
        faiss::RangeSearchResult found(queries.rows);
        index.range_search(
                queries.rows,
                unit.empty() ? queries.tensor : unit.data(),
                limits.radius,
                &found,
                used);
        for (int64_t q = 0; q < queries.rows; q++) {
            Hits hits;
            for (size_t i = found.lims[q]; i < found.lims[q + 1]; i++) {
                float value = found.distances[i];
                bool near = l2 ? value >= limits.range_filter &&
                                            value < limits.radius
                               : value <= limits.range_filter &&
                                            value > limits.radius;
                if (near) {
                    hits.emplace_back(found.labels[i], value);
                }
            }
            std::sort(
                    hits.begin(),
                    hits.end(),
                    [l2](const auto& a, const auto& b) {
                        return a.second != b.second
                                       ? (a.second < b.second) == l2
                                       : a.first < b.first;
                    });
            for (auto [id, value] : hits) {
                results->ids.push_back(id);
                results->distance.push_back(value);
            }
            results->lims[q + 1] = results->ids.size();
        }
        return result_set(queries.rows, 0, std::move(results));
    });
}

FaissNode::Hits FaissNode::hits_of(
        const std::vector<float>& query,
        int64_t k,
        const Parameters& parameters,
        const RowFilter& filter,
        Reach reach) const {
    ThreadScope threads(1);
    ReadLock lock(mutex_);
    check_held();
    check_rows(
            {1, int64_t(query.size()), query.data()}, "query", held_.index->d);
    k = std::min(k, filter.passing());
    std::vector<float> distances(k);
    std::vector<int64_t> labels(k);
    search_rows(
            1,
            query.data(),
            k,
            parameters,
            filter,
            reach,
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

// ------------------------------------------------------------------ rows

Expected<DataSet> FaissNode::GetVectorByIds(const DataSet& ids) const noexcept {
    return guarded_value<DataSet>([&] {
        WriteLock lock(mutex_); // reconstruct may need a direct map first
        check_held();
        if (!keeps_rows(held_.index.get(), held_.metric)) {
            throw Fault(
                    StatusCode::not_implemented,
                    std::string(type_) + " with " + name_of(held_.metric) +
                            " keeps no raw data here");
        }
        if (ids.rows < 0 || (ids.rows > 0 && ids.ids == nullptr)) {
            throw Fault(StatusCode::invalid_args, "ids are missing");
        }
        auto ivf = dynamic_cast<faiss::IndexIVF*>(held_.index.get());
        if (ivf != nullptr && ivf->direct_map.no()) {
            ivf->make_direct_map(true);
        }
        int64_t d = held_.index->d;
        auto rows = std::make_shared<std::vector<float>>(ids.rows * d);
        for (int64_t i = 0; i < ids.rows; i++) {
            int64_t id = ids.ids[i];
            if (id < 0 || id >= held_.index->ntotal) {
                throw Fault(
                        StatusCode::invalid_args,
                        "id = " + std::to_string(id) + " (allowed: 0.." +
                                std::to_string(held_.index->ntotal - 1) + ")");
            }
            held_.index->reconstruct(id, rows->data() + i * d);
        }
        DataSet set{ids.rows, d, rows->data()};
        set.owner = std::move(rows);
        return set;
    });
}

bool FaissNode::HasRawData(const std::string& metric) const noexcept {
    try {
        ReadLock lock(mutex_);
        return keeps_rows(
                held_.index.get(),
                held_.index == nullptr ? metric_of(metric) : held_.metric);
    } catch (...) {
        return false;
    }
}

int64_t FaissNode::Dim() const noexcept {
    ReadLock lock(mutex_);
    return held_.index == nullptr ? 0 : held_.index->d;
}

int64_t FaissNode::Count() const noexcept {
    ReadLock lock(mutex_);
    return held_.index == nullptr ? 0 : held_.index->ntotal;
}

int64_t FaissNode::Size() const noexcept {
    try {
        ReadLock lock(mutex_);
        return held_.index == nullptr ? 0 : bytes_of(*held_.index);
    } catch (...) {
        return 0;
    }
}

// ----------------------------------------------------------------- blobs

int64_t FaissNode::bytes_of(const faiss::Index& index) const {
    return written_size(index);
}

Blob FaissNode::write(const Held& held) const {
    return write_blob(type_, held);
}

Held FaissNode::read(std::span<const uint8_t> blob) const {
    return read_blob(type_, blob);
}

Held FaissNode::read_file(const std::string& path, bool) const {
    return read(read_bytes(path));
}

Expected<Blob> FaissNode::Serialize() const noexcept {
    return guarded_value<Blob>([&] {
        ReadLock lock(mutex_);
        check_held();
        return write(held_);
    });
}

Status FaissNode::Deserialize(
        std::span<const uint8_t> blob,
        const Config& config) noexcept {
    return guarded([&] {
        Parameters parameters(schema_, config);
        Held made = read(blob);
        WriteLock lock(mutex_);
        std::swap(held_, made);
    });
}

Status FaissNode::DeserializeFromFile(
        const std::string& path,
        const Config& config) noexcept {
    return guarded([&] {
        Parameters parameters(schema_, config);
        Held made = read_file(path, parameters.flag("enable_mmap"));
        WriteLock lock(mutex_);
        std::swap(held_, made);
    });
}

} // namespace knowhere_plugin
