#include <knowhere_plugin/faiss_node.h>

#include <algorithm>
#include <cmath>

#include <faiss_ext/index_io.h>

#include <knowhere_plugin/guard.h>

namespace knowhere_plugin {

namespace {

using ReadLock = std::shared_lock<std::shared_mutex>;
using WriteLock = std::unique_lock<std::shared_mutex>;

int build_threads(const Parameters& parameters) {
    return parameters.given("num_build_thread")
                   ? int(parameters.integer("num_build_thread"))
                   : 0;
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

void FaissNode::replace(Held held) {
    WriteLock lock(mutex_);
    places_.forget();
    forget();
    std::swap(held_, held);
    lock.unlock(); // what was there before is freed without it
}

Status FaissNode::Build(const DataSet& rows, const Config& config) noexcept {
    return guarded([&] {
        Parameters parameters(schema_, config);
        ThreadScope threads(build_threads(parameters));
        Held made = train_held(rows, parameters);
        add_rows(made, rows);
        tune(*made.index, parameters);
        replace(std::move(made));
    });
}

Status FaissNode::Train(const DataSet& rows, const Config& config) noexcept {
    return guarded([&] {
        Parameters parameters(schema_, config);
        ThreadScope threads(build_threads(parameters));
        replace(train_held(rows, parameters));
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
        places_.forget();
        forget();
        if (!tunes(parameters)) {
            add_rows(held_, rows);
            return;
        }
        // aside: where tuning fails, the rows are not there either
        Held more{
                std::unique_ptr<faiss::Index>(
                        faiss_ext::clone_index(held_.index.get())),
                held_.metric};
        add_rows(more, rows);
        tune(*more.index, parameters);
        std::swap(held_, more);
    });
}

// ------------------------------------------------------------------ rows

Expected<DataSet> FaissNode::GetVectorByIds(const DataSet& ids) const noexcept {
    return guarded_value<DataSet>([&] {
        ReadLock lock(mutex_);
        check_held();
        const faiss::Index& index = *held_.index;
        if (!keeps_rows(&index, held_.metric)) {
            throw Fault(
                    StatusCode::not_implemented,
                    std::string(type_) + " with " + name_of(held_.metric) +
                            " keeps no raw data here");
        }
        if (ids.rows < 0 || (ids.rows > 0 && ids.ids == nullptr)) {
            throw Fault(StatusCode::invalid_args, "ids are missing");
        }
        for (int64_t i = 0; i < ids.rows; i++) {
            if (ids.ids[i] < 0 || ids.ids[i] >= index.ntotal) {
                throw Fault(
                        StatusCode::invalid_args,
                        "id = " + std::to_string(ids.ids[i]) +
                                " (allowed: 0.." +
                                std::to_string(index.ntotal - 1) + ")");
            }
        }
        auto rows = std::make_shared<std::vector<float>>(ids.rows * index.d);
        DataSet set{ids.rows, index.d, rows->data()};
        if (auto ivf = dynamic_cast<const faiss::IndexIVF*>(&index)) {
            const std::vector<uint64_t>& places = places_.of(*ivf);
            for (int64_t i = 0; i < ids.rows; i++) {
                uint64_t place = places[ids.ids[i]];
                ivf->reconstruct_from_offset(
                        faiss::lo_listno(place),
                        faiss::lo_offset(place),
                        rows->data() + i * index.d);
            }
        } else {
            for (int64_t i = 0; i < ids.rows; i++) {
                index.reconstruct(ids.ids[i], rows->data() + i * index.d);
            }
        }
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

} // namespace knowhere_plugin
