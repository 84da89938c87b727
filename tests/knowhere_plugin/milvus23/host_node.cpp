#include "host_node.h"

#include <algorithm>
#include <stdexcept>

namespace fake_host {

namespace {

Answer refused(std::string message) {
    Answer answer;
    answer.status = abi::Status::invalid_args;
    answer.message = std::move(message);
    return answer;
}

} // namespace

std::unique_ptr<abi::DataSet> data_of(const Rows& rows) {
    auto data = std::make_unique<abi::DataSet>();
    data->own(false);
    data->set(abi::kRows, rows.n);
    data->set(abi::kDim, rows.dim);
    data->set(abi::kTensor, static_cast<const void*>(rows.x));
    return data;
}

HostNode::HostNode() : index_(registered().at("SCANN")(1, abi::Object())) {}

abi::Status HostNode::build(const Rows& rows, Request request) {
    auto config = node().CreateConfig();
    std::string error = fill(*config, std::move(request), abi::kTrain);
    if (!error.empty()) { // the host would now retry for ever
        throw std::runtime_error("the host refused a build: " + error);
    }
    if (config->CheckAndAdjustForBuild() != abi::Status::success) {
        throw std::runtime_error("the config refused a build");
    }
    return node().Build(*data_of(rows), *config);
}

Answer HostNode::hits(
        abi::Phase phase,
        const Rows& queries,
        Request request,
        const std::vector<uint8_t>& bits) const {
    auto config = node().CreateConfig();
    std::string error = fill(*config, std::move(request), phase);
    if (!error.empty()) {
        return refused(error);
    }
    bool range = phase == abi::kRangeSearch;
    abi::Status status = range ? config->CheckAndAdjustForRangeSearch(&error)
                               : config->CheckAndAdjustForSearch(&error);
    if (status != abi::Status::success) {
        return refused(error);
    }
    // as Milvus 2.3.2 and 2.3.3 read them, at the places of their own
    auto k = config->k;
    auto radius = config->radius;
    abi::BitsetView bitset{bits.data(), size_t(node().Count())};
    auto data = data_of(queries);
    auto found = range ? node().RangeSearch(*data, *config, bitset)
                       : node().Search(*data, *config, bitset);
    Answer answer;
    answer.status = found.status;
    answer.message = found.message;
    if (!found.value) {
        if (answer.ok()) {
            throw std::runtime_error("neither result nor status");
        }
        return answer;
    }
    answer.k_read = k.value();
    answer.radius_read = radius;
    const abi::DataSet& result = **found.value;
    answer.rows = result.get<int64_t>(abi::kRows);
    answer.k = result.get<int64_t>(abi::kDim);
    size_t count = size_t(answer.rows * answer.k);
    if (range) {
        auto lims = result.get<const size_t*>(abi::kLims);
        answer.lims.assign(lims, lims + answer.rows + 1);
        count = answer.lims.back();
    }
    auto ids = result.get<const int64_t*>(abi::kIds);
    auto distance = result.get<const float*>(abi::kDistance);
    answer.ids.assign(ids, ids + count);
    answer.distance.assign(distance, distance + count);
    return answer;
}

Answer HostNode::search(
        const Rows& queries,
        Request request,
        const std::vector<uint8_t>& bits) const {
    return hits(abi::kSearch, queries, std::move(request), bits);
}

Answer HostNode::search(const Rows& queries, Request request) const {
    std::vector<uint8_t> none(size_t(node().Count() + 7) / 8);
    return search(queries, std::move(request), none);
}

Answer HostNode::range(const Rows& queries, Request request) const {
    std::vector<uint8_t> none(size_t(node().Count() + 7) / 8);
    return hits(abi::kRangeSearch, queries, std::move(request), none);
}

Answer HostNode::vectors(const std::vector<int64_t>& ids) const {
    abi::DataSet data;
    data.own(false);
    data.set(abi::kRows, int64_t(ids.size()));
    data.set(abi::kIds, ids.data());
    auto found = node().GetVectorByIds(data);
    Answer answer;
    answer.status = found.status;
    answer.message = found.message;
    if (found.value) {
        const abi::DataSet& result = **found.value;
        answer.rows = result.get<int64_t>(abi::kRows);
        auto x = static_cast<const float*>(
                result.get<const void*>(abi::kTensor));
        answer.rows_found.assign(
                x, x + answer.rows * result.get<int64_t>(abi::kDim));
    }
    return answer;
}

std::vector<uint8_t> HostNode::saved() const {
    abi::BinarySet set;
    if (node().Serialize(set) != abi::Status::success || set.size() != 1 ||
        set.count("SCANN") != 1) {
        throw std::runtime_error("no blob \"SCANN\"");
    }
    const abi::Binary& binary = *set["SCANN"];
    return {binary.data.get(), binary.data.get() + binary.size};
}

abi::Status HostNode::load(std::vector<uint8_t> bytes, const char* name) {
    auto config = node().CreateConfig();
    abi::BinarySet set;
    set[name] = std::make_shared<abi::Binary>();
    set[name]->data = std::shared_ptr<uint8_t[]>(bytes.data(), [](uint8_t*) {});
    set[name]->size = int64_t(bytes.size());
    abi::Status status = node().Deserialize(set, *config);
    std::fill(bytes.begin(), bytes.end(), uint8_t(0xee));
    return status;
}

} // namespace fake_host
