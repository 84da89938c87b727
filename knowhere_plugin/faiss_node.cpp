#include <knowhere_plugin/faiss_node.h>

#include <algorithm>
#include <cmath>

#include <faiss_ext/index_io.h>
#include <faiss_ext/memory/query_rows.h>

#include <knowhere_plugin/guard.h>

namespace knowhere_plugin {

namespace {

int build_threads(const Parameters& parameters) {
    return parameters.given("num_build_thread")
                   ? int(parameters.integer("num_build_thread"))
                   : 0;
}

} // namespace

// ---------------------------------------------------------------- checks

NodeIndex::Reading FaissNode::reading() const {
    std::shared_ptr<NodeIndex> now = current_.load();
    if (now == nullptr) {
        throw Fault(
                StatusCode::empty_index,
                std::string(type_) + ": neither built nor loaded");
    }
    return NodeIndex::read(std::move(now));
}

void FaissNode::check_metric(const Parameters& parameters, Metric metric)
        const {
    if (parameters.given("metric_type") &&
        parameters.word("metric_type") != name_of(metric)) {
        throw Fault(
                StatusCode::invalid_metric_type,
                "metric_type = \"" + parameters.word("metric_type") +
                        "\" (allowed: " + name_of(metric) +
                        ", which the index was built with)");
    }
}

void FaissNode::check_rows(const DataSet& rows, const char* what, int64_t d)
        const {
    std::string name = what;
    if (rows.rows < 0) {
        throw Fault(
                StatusCode::invalid_args,
                name + ": rows = " + std::to_string(rows.rows) +
                        " (allowed: >= 0)");
    }
    if (rows.rows > 0 && rows.tensor == nullptr) {
        throw Fault(
                StatusCode::invalid_args,
                name + ": tensor = nullptr with rows = " +
                        std::to_string(rows.rows) +
                        " (allowed: rows * dim floats)");
    }
    if (d != 0 ? rows.dim != d : rows.dim < 1 || rows.dim > 65536) {
        throw Fault(
                StatusCode::invalid_args,
                name + ": dim = " + std::to_string(rows.dim) + " (allowed: " +
                        (d != 0 ? std::to_string(d) : "1..65536") + ")");
    }
    const float* end = rows.tensor + rows.rows * rows.dim;
    const float* bad = std::find_if(rows.tensor, end, [](float value) {
        return !std::isfinite(value);
    });
    if (bad != end) {
        const int64_t at = bad - rows.tensor;
        const char* value = std::isnan(*bad) ? "nan"
                            : *bad > 0       ? "inf"
                                             : "-inf";
        throw Fault(
                StatusCode::invalid_args,
                name + "[" + std::to_string(at / rows.dim) + ", " +
                        std::to_string(at % rows.dim) + "] = " + value +
                        " (allowed: finite numbers)");
    }
}

void FaissNode::check_lengths(
        const DataSet& rows,
        const char* what,
        Metric metric) const {
    if (takes_any_length() || metric == Metric::COSINE) {
        return;
    }
    for (int64_t i = 0; i < rows.rows; i++) {
        const double squares = faiss_ext::sum_of_squares(
                size_t(rows.dim), rows.tensor + i * rows.dim);
        if (squares > faiss_ext::kMaxSquares) {
            throw Fault(
                    StatusCode::invalid_args,
                    std::string(what) + "[" + std::to_string(i) +
                            "]: sum of squares = " + shown(squares) +
                            " (allowed for " + type_ + ": 0.." +
                            shown(faiss_ext::kMaxSquares) + ")");
        }
    }
}

void FaissNode::check_queries(
        const NodeIndex::Reading& index,
        const DataSet& queries,
        const Parameters& parameters) const {
    check_metric(parameters, index.metric());
    check_rows(queries, "queries", index->d);
    check_lengths(queries, "queries", index.metric());
}

// ----------------------------------------------------------------- build

std::vector<float> FaissNode::unit_rows(const DataSet& rows, Metric metric)
        const {
    if (metric != Metric::COSINE || !normalizes_rows()) {
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

BuiltIndex FaissNode::train_new(
        const DataSet& rows,
        const Parameters& parameters) const {
    check_rows(rows, "rows", 0);
    check_build(parameters);
    if (parameters.given("dim") && parameters.integer("dim") != rows.dim) {
        throw Fault(
                StatusCode::invalid_args,
                "dim = " + std::to_string(parameters.integer("dim")) +
                        " (allowed: " + std::to_string(rows.dim) +
                        ", as the rows have)");
    }
    Metric metric = metric_of(parameters.word("metric_type"));
    check_lengths(rows, "rows", metric);
    // without rows, training gets one unit vector, since zero has no direction
    std::vector<float> unit_vector(rows.rows == 0 ? rows.dim : 0);
    if (!unit_vector.empty()) {
        unit_vector[0] = 1;
    }
    std::vector<float> unit = unit_rows(rows, metric);
    const float* x = rows.rows == 0 ? unit_vector.data()
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

void FaissNode::add_rows(
        faiss::Index& index,
        Metric metric,
        const DataSet& rows) const {
    check_rows(rows, "rows", index.d);
    check_lengths(rows, "rows", metric);
    if (rows.rows == 0) {
        return;
    }
    std::vector<float> unit = unit_rows(rows, metric);
    add_to_index(index, rows.rows, unit.empty() ? rows.tensor : unit.data());
}

void FaissNode::add_to_index(faiss::Index& index, int64_t n, const float* x)
        const {
    index.add(n, x);
}

/// The old index is freed by the last call that reads it.
void FaissNode::replace(BuiltIndex built) {
    std::lock_guard lock(writing_.here());
    const std::shared_ptr<NodeIndex> old = current_.load();
    const uint64_t build = old == nullptr ? 1 : old->build() + 1;
    current_.store(std::make_shared<NodeIndex>(std::move(built), build));
}

Status FaissNode::Build(const DataSet& rows, const Config& config) noexcept {
    return guarded([&] {
        Parameters parameters(schema_, config);
        ThreadScope threads(build_threads(parameters));
        BuiltIndex made = train_new(rows, parameters);
        add_rows(*made.index, made.metric, rows);
        calibrate_index(*made.index, parameters);
        replace(std::move(made));
    });
}

Status FaissNode::Train(const DataSet& rows, const Config& config) noexcept {
    return guarded([&] {
        Parameters parameters(schema_, config);
        ThreadScope threads(build_threads(parameters));
        replace(train_new(rows, parameters));
    });
}

Status FaissNode::Add(const DataSet& rows, const Config& config) noexcept {
    return guarded([&] {
        Parameters parameters(schema_, config);
        ThreadScope threads(build_threads(parameters));
        std::lock_guard lock(writing_.here());
        const std::shared_ptr<NodeIndex> now = current_.load();
        if (now == nullptr) {
            throw Fault(
                    StatusCode::index_not_trained,
                    std::string(type_) + ": Add before Train");
        }
        const Metric metric = now->metric();
        check_metric(parameters, metric);
        check_build(parameters);
        if (!calibrates(parameters)) {
            now->change([&](faiss::Index& index) {
                add_rows(index, metric, rows);
            });
            return;
        }
        // on a copy: if calibration fails, the rows are not added either
        BuiltIndex more{
                std::unique_ptr<faiss::Index>(
                        faiss_ext::clone_index(&*NodeIndex::read(now))),
                metric};
        add_rows(*more.index, metric, rows);
        calibrate_index(*more.index, parameters);
        current_.store(
                std::make_shared<NodeIndex>(std::move(more), now->build()));
    });
}

// ------------------------------------------------------------------ rows

void FaissNode::check_ids(const NodeIndex::Reading& index, const DataSet& ids)
        const {
    if (!keeps_raw_rows(&*index, index.metric())) {
        throw Fault(
                StatusCode::not_implemented,
                std::string(type_) + " with metric_type = " +
                        name_of(index.metric()) + " keeps no raw data here");
    }
    if (ids.rows < 0 || (ids.rows > 0 && ids.ids == nullptr)) {
        throw Fault(
                StatusCode::invalid_args,
                "ids: rows = " + std::to_string(ids.rows) +
                        (ids.ids == nullptr ? " with ids = nullptr" : "") +
                        " (allowed: >= 0, and as many ids)");
    }
    for (int64_t i = 0; i < ids.rows; i++) {
        if (ids.ids[i] < 0 || ids.ids[i] >= index->ntotal) {
            throw Fault(
                    StatusCode::invalid_args,
                    "id = " + std::to_string(ids.ids[i]) + " (allowed: 0.." +
                            std::to_string(index->ntotal - 1) + ")");
        }
    }
}

Expected<DataSet> FaissNode::GetVectorByIds(const DataSet& ids) const noexcept {
    return guarded_value<DataSet>([&] {
        const NodeIndex::Reading index = reading();
        check_ids(index, ids);
        auto rows = std::make_shared<std::vector<float>>(ids.rows * index->d);
        DataSet set{ids.rows, index->d, rows->data()};
        auto ivf = dynamic_cast<const faiss::IndexIVF*>(&*index);
        const RowPlaces::Places places =
                ivf == nullptr ? nullptr : places_.of(*ivf, index.build());
        for (int64_t i = 0; i < ids.rows; i++) {
            float* row = rows->data() + i * index->d;
            if (ivf == nullptr) {
                index->reconstruct(ids.ids[i], row);
            } else {
                const uint64_t place = (*places)[ids.ids[i]];
                ivf->reconstruct_from_offset(
                        faiss::lo_listno(place), faiss::lo_offset(place), row);
            }
        }
        set.owner = std::move(rows);
        return set;
    });
}

bool FaissNode::HasRawData(const std::string& metric) const noexcept {
    try {
        const std::shared_ptr<NodeIndex> now = current_.load();
        if (now == nullptr) {
            return keeps_raw_rows(nullptr, metric_of(metric));
        }
        return keeps_raw_rows(&*NodeIndex::read(now), now->metric());
    } catch (...) {
        return false;
    }
}

const char* FaissNode::MetricType() const noexcept {
    const std::shared_ptr<NodeIndex> now = current_.load();
    return now == nullptr ? nullptr : name_of(now->metric());
}

/// A number of the index; 0 if there is none.
template <class Number>
int64_t FaissNode::number(Number&& number) const noexcept {
    try {
        std::shared_ptr<NodeIndex> now = current_.load();
        return now == nullptr ? 0 : number(*NodeIndex::read(std::move(now)));
    } catch (...) {
        return 0;
    }
}

int64_t FaissNode::Dim() const noexcept {
    return number([](const faiss::Index& index) { return index.d; });
}

int64_t FaissNode::Count() const noexcept {
    return number([](const faiss::Index& index) { return index.ntotal; });
}

int64_t FaissNode::Size() const noexcept {
    return number([&](const faiss::Index& index) { return bytes_of(index); });
}

} // namespace knowhere_plugin
